"""A small real service on a local port: it speaks the wire form of ours, and fails where a test tells it to."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

from bakeoff.modes import MODES
from bakeoff.records import Example

Reply = Callable[[str, str], dict[str, Any]]
"""(mode, question) -> `text`, or what goes wrong: `status`, `broken`, `silent`, `torn`."""


class FakeService:
    """The service, its state, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.facts: dict[str, Any] = {
            "ready": True,
            "reason": None,
            "adapter": "adapter-1",
            "epoch": 3,
            "engine": "fake",
            "base_model": "tiny",
            "prompts_version": 1,
            "top_k": 5,
            "num_shots": 4,
        }
        self.reply: Reply = lambda mode, question: {"text": f"{mode} says yes [1]."}
        self.before_answer: Callable[[], None] = lambda: None
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = unquote(self.path).removeprefix("/v1/models/")
                domain, _, mode = name.partition("/")
                if domain != "inn" or mode not in MODES:
                    self._send(404, {"error": {"message": f"model {name} does not exist", "code": "model_not_found"}})
                    return
                facts = {"domain": domain, "mode": mode, **service.facts}
                self._send(200, {"id": name, "object": "model", "bakeoff": facts})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                mode, question = body["model"].partition("/")[2], body["messages"][0]["content"]
                service.asked.append((mode, question))
                service.bodies.append(body)
                service.before_answer()
                reply = service.reply(mode, question)
                if status := reply.get("status"):
                    self._send(
                        status, {"error": {"message": reply["message"], "type": "x", "param": None, "code": None}}
                    )
                    return
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                for event in service.events(mode, reply):
                    self.wfile.write(f"data: {event}\r\n\r\n".encode())

            def _send(self, status: int, body: dict[str, Any]) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.01), daemon=True)
        self._thread.start()

    def events(self, mode: str, reply: dict[str, Any]) -> Iterator[str]:
        """The events of one stream."""

        def chunk(**delta: object) -> dict[str, Any]:
            return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

        yield json.dumps(chunk(role="assistant"))
        text = reply.get("text", "")
        yield json.dumps(chunk(content=text[:4]))
        if "broken" in reply:
            yield json.dumps({"error": {"message": reply["broken"], "type": "server_error"}})
            return
        if "torn" in reply:
            return
        passages = [
            {
                "rank": rank,
                "score": 1.0,
                "document_id": f"d{rank}",
                "chunk_id": f"c{rank}",
                "title": f"T{rank}",
                "text": "x",
            }
            for rank in (1, 2)
            if MODES[mode].uses_retrieval
        ]
        citations = [
            {"url": f"{self.url}/passages/c{rank}", "title": f"T{rank}", "start_index": start, "end_index": end}
            for rank, start, end in ((1, 9, 12), (2, 0, 0))
            if MODES[mode].uses_retrieval
        ]
        annotations = [{"type": "url_citation", "url_citation": citation} for citation in citations]
        last = chunk(content=text[4:], annotations=annotations)
        last["choices"][0]["finish_reason"] = "stop"
        last["bakeoff"] = {
            "mode": mode,
            "adapter": self.facts["adapter"] if MODES[mode].uses_adapter else None,
            "epoch": self.facts["epoch"],
            "passages": passages,
        }
        yield json.dumps(last)
        yield json.dumps({"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 7, "total_tokens": 47}})
        yield "[DONE]"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def service() -> Iterator[FakeService]:
    fake = FakeService()
    yield fake
    fake.close()


@pytest.fixture
def examples() -> list[Example]:
    return [
        Example(f"e{number}", f"Is there a pool in room {number}?", "Yes.", ("Yes.",), ("d1",), {"yes_no": "yes"})
        for number in range(4)
    ]
