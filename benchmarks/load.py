"""Clients that cost little: bare asyncio connections that ask the same question over and over, and count.

An HTTP library would cost more than the gateway it measures. Answers are read by content-length or by chunks; anything
but status 200 and a whole body counts as failed.
"""

import asyncio
import time
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What the clients of one measurement saw."""

    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    num_chunks: int = 0
    num_failed: int = 0
    failure: str = ""
    """The first one."""

    @property
    def per_second(self) -> float:
        """Requests answered in a second."""
        return len(self.latencies_ms) / self.seconds

    @property
    def chunks_per_second(self) -> float:
        """`data:` frames received in a second."""
        return self.num_chunks / self.seconds


def make_request(port: int, body: bytes, key: str) -> bytes:
    """A POST of a chat completion, as bytes."""
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


async def press(port: int, request: bytes, num_clients: int, seconds: float) -> Tally:
    """Let so many clients ask for so long, each waiting for its answer before it asks again."""
    tally = Tally()
    deadline = time.perf_counter() + seconds
    start = time.perf_counter()
    await asyncio.gather(*(_ask_on(port, request, deadline, tally) for _ in range(num_clients)))
    tally.seconds = time.perf_counter() - start
    return tally


async def _ask_on(port: int, request: bytes, deadline: float, tally: Tally) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        while (start := time.perf_counter()) < deadline:
            writer.write(request)
            try:
                num_chunks = await asyncio.wait_for(_read_answer(reader), 60)
            except (ValueError, OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                tally.num_failed += 1
                tally.failure = tally.failure or f"{type(error).__name__}: {error}"
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
                continue
            tally.latencies_ms.append((time.perf_counter() - start) * 1000)
            tally.num_chunks += num_chunks
    finally:
        writer.close()


async def _read_answer(reader: asyncio.StreamReader) -> int:
    """Read one response; return the `data:` frames in it."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = head.split(b" ", 2)[1]
    if b"transfer-encoding: chunked" in head:
        num_frames, is_done, body = 0, False, b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body = (await reader.readexactly(size + 2))[:-2]
            num_frames += body.count(b"data: ")
            is_done = is_done or b"[DONE]" in body
            if b'"error"' in body:
                raise ValueError(f"an error frame: {body[:200]!r}")
        await reader.readexactly(2)
        if status == b"200" and not (is_done or body.endswith(b"}")):
            raise ValueError("the stream ended without [DONE]")
    else:
        length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        body = await reader.readexactly(length)
        num_frames = 0
    if status != b"200":
        raise ValueError(f"status {status.decode()}: {body[:200]!r}")
    return num_frames
