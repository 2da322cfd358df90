"""The service's side of one worker process: start it, stream from it, notice when it dies."""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Sequence
from itertools import count
from pathlib import Path

import msgspec

from bakeoff.errors import BadInput, EngineDown
from bakeoff.records import Sampling
from service.embedded.protocol import Cancel, FromWorker, Progress, Ready, Submit, ToWorker, WorkerOptions

logger = logging.getLogger(__name__)

_DECODER = msgspec.json.Decoder(FromWorker)
_ROOT = Path(__file__).resolve().parents[2]
_LONGEST_LINE = 1 << 24


class Engine:
    """One set of weights, served by a process of its own. Make it with `open_engine`."""

    def __init__(self, name: str, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take over a worker that is ready."""
        self.name = name
        self._process = process
        self._writer = writer
        self._numbers = count()
        self._queues: dict[int, asyncio.Queue[Progress | None]] = {}
        self._is_alive = True
        self._is_retiring = False
        self._listener = asyncio.create_task(self._listen(reader))

    @property
    def is_alive(self) -> bool:
        """False once the worker is gone: nothing can be asked of it any more."""
        return self._is_alive

    @property
    def num_running(self) -> int:
        """Requests in flight."""
        return len(self._queues)

    @property
    def process_id(self) -> int:
        """Of the worker."""
        return self._process.pid

    async def stream(
        self, tokens: Sequence[int], eos_tokens: Sequence[int], sampling: Sampling
    ) -> AsyncGenerator[Progress, None]:
        """Generate; closing the iterator takes the request out of the batch.

        Raises:
            EngineDown: the worker is gone, or has no room for the request.
            BadInput: it does not take these parameters.
        """
        if not self.is_alive:
            raise EngineDown(f"the engine of {self.name} has stopped. Try again; it starts with the next request")
        request_id = next(self._numbers)
        queue: asyncio.Queue[Progress | None] = asyncio.Queue()
        self._queues[request_id] = queue
        is_finished = False
        try:
            self._send(
                Submit(
                    request_id,
                    list(tokens),
                    list(eos_tokens),
                    sampling.max_tokens,
                    sampling.temperature,
                    sampling.top_p,
                    secrets.randbits(31) if sampling.seed is None else sampling.seed,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                    sampling.top_logprobs is not None,
                    "" if sampling.json_schema is None else msgspec.json.encode(sampling.json_schema).decode(),
                    sampling.extras,
                )
            )
            while not is_finished:
                progress = await queue.get()
                if progress is None:
                    raise EngineDown(f"the engine of {self.name} stopped while it was answering. Try again")
                is_finished = progress.finish != ""
                if progress.finish == "refused":
                    raise BadInput(
                        f"the engine does not take these parameters: {progress.reason.strip().splitlines()[-1]}"
                    )
                if progress.finish == "dropped":
                    raise EngineDown("the engine's key/value cache is full. Raise BAKEOFF_ENGINE_CACHE_MIB")
                yield progress
        finally:
            del self._queues[request_id]
            if not is_finished and self.is_alive:
                self._send(Cancel(request_id))
            if self._is_retiring and not self._queues:
                self._writer.close()

    def retire(self) -> None:
        """Stop as soon as the requests in flight are answered."""
        self._is_retiring = True
        if not self._queues:
            self._writer.close()

    async def close(self) -> None:
        """Stop now."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._process.wait(), timeout=5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await asyncio.gather(self._listener, return_exceptions=True)

    def _send(self, message: ToWorker) -> None:
        self._writer.write(msgspec.json.encode(message) + b"\n")

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                progress = _DECODER.decode(line)
                if isinstance(progress, Progress) and progress.request_id in self._queues:
                    self._queues[progress.request_id].put_nowait(progress)
        except (ConnectionError, ValueError):
            logger.exception("worker cannot be read engine=%s", self.name)
        finally:
            self._is_alive = False
            for queue in self._queues.values():
                queue.put_nowait(None)
            self._writer.close()
            status = await self._process.wait()
            if status:
                logger.error("worker died engine=%s status=%s", self.name, status)


async def open_engine(name: str, options: WorkerOptions) -> Engine:
    """Start a worker and wait until its model is loaded.

    Raises:
        EngineDown: it ended before that; its own message is on stderr.
    """
    ours, theirs = socket.socketpair()
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    arguments = [str(theirs.fileno()), msgspec.json.encode(options).decode()]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.embedded.worker", *arguments),
        pass_fds=[theirs.fileno()],
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C is for the server, which then closes the socket
    )
    theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours, limit=_LONGEST_LINE)
    try:
        line = await reader.readline()
        if not line or not isinstance(_DECODER.decode(line), Ready):
            raise EngineDown(f"the engine of {name} did not start (exit status {await process.wait()})")
    except BaseException:
        writer.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise
    logger.info("engine started name=%s pid=%s", name, process.pid)
    return Engine(name, process, reader, writer)
