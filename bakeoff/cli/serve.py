"""`bakeoff serve`: the chat service in the foreground; and a private one for commands that need answers."""

import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click
import httpx
from msgspec import Struct

from bakeoff.cli.output import say
from bakeoff.cli.worker import worker_beside
from bakeoff.cli.workspace import Workspace
from bakeoff.errors import BadInput, EngineDown
from bakeoff.keys import has_valid_key, list_keys

if TYPE_CHECKING:
    import uvicorn

LOOPBACK = ("127.0.0.1", "localhost", "::1")
START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 10


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 picks a free one.")
@click.option("--until-eof", is_flag=True, hidden=True, help="End when stdin does: with the process that started it.")
@click.option("--private", is_flag=True, hidden=True, help="The first line of stdin opens it, beside its keys.")
@click.option("--no-worker", is_flag=True, help="Run no queued jobs beside it: bakeoff worker does, elsewhere.")
def serve_command(host: str, port: int, until_eof: bool, private: bool, no_worker: bool) -> None:
    """Serve every domain in every mode behind the OpenAI API, with a web page at /.

    On this machine's own address it is open until a key is made (bakeoff keys create); on any other address it does not
    start without one. Its log is JSON on stderr, a line for each request, without what was asked and answered.
    """
    import uvicorn

    workspace = Workspace()
    settings = workspace.settings
    access = _describe_access(workspace, host)
    listener = listen(host, port)
    token = sys.stdin.readline().strip() if private else ""
    from service.app import create_app
    from service.edge.request_log import write_logs_as_json

    address = f"http://{host}:{listener.getsockname()[1]}"
    say(f"Loading the model; then serving on {address} (web page at /, OpenAI API at /v1). Ctrl-C ends.")
    say(access)
    write_logs_as_json()
    app = create_app(settings, token=token)
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    if until_eof:
        threading.Thread(target=_stop_at_eof, args=(server,), daemon=True).start()
    with nullcontext() if no_worker or private else worker_beside():
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            say("Stopped.")
    if not server.started:
        raise EngineDown("the service did not start; the lines above say why. See also: bakeoff doctor")


def _describe_access(workspace: Workspace, host: str) -> str:
    """Who may ask, in a sentence.

    Raises:
        BadInput: anybody on a network could, as there is no key.
    """
    with workspace.engine.connect() as connection:
        is_valid, any_made = has_valid_key(connection), bool(list_keys(connection))
    workspace.engine.dispose()
    if host not in LOOPBACK and not is_valid:
        raise BadInput(
            f"{host} can be reached from other machines, and there is no valid key: make one first with: "
            "bakeoff keys create NAME"
        )
    if not any_made:
        return (
            "Open: there are no keys, so every program on this machine may ask and manage. "
            "To change that: bakeoff keys create NAME"
        )
    if not is_valid:
        return "Closed: every key is revoked or has expired. Make one with: bakeoff keys create NAME"
    return "Keys are asked for, as Authorization: Bearer KEY, and by the web page."


def _stop_at_eof(server: "uvicorn.Server") -> None:
    sys.stdin.buffer.read()
    server.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """Bind a listening socket.

    Raises:
        BadInput: the port is in use or not allowed.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise BadInput(f"port {port} on {host} cannot be used: {error.strerror}. Choose another with --port") from error
    return listener


class Service(Struct, frozen=True):
    """A service that answers."""

    url: str
    """Base address."""
    api_key: str
    """Empty: none is sent."""

    @property
    def headers(self) -> dict[str, str]:
        """What every request to it carries."""
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}


@contextmanager
def running_service(url: str | None, home: Path, port: int = 0, *, api_key: str = "") -> Iterator[Service]:
    """A service to talk to: the one at `url`, or a private one that ends with the block.

    The private one is told a secret of its own, by a pipe that no other process reads, so that it answers this command
    whatever keys there are.

    Args:
        home: where the private one writes its log.
        port: of the private one on 127.0.0.1; 0 picks a free one.
        api_key: for the one at `url`.

    Raises:
        EngineDown: nothing answers at `url`, or the private one did not start.
    """
    if url is not None:
        yield Service(_check_url(url.rstrip("/")), api_key)
        return
    listener = listen("127.0.0.1", port)
    port = listener.getsockname()[1]
    listener.close()
    home.mkdir(parents=True, exist_ok=True)
    log_path = home / "service.log"
    token = secrets.token_urlsafe(32)
    command = [sys.executable, "-m", "bakeoff.cli.main", "--verbose", "serve", "--port", str(port)]
    command += ["--until-eof", "--private"]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        _tell(process, token)
        _wait_until_ready(address, process, log_path)
        yield Service(address, token)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tell(process: subprocess.Popen[bytes], token: str) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(f"{token}\n".encode())
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it has ended already: its log says why


def _check_url(url: str) -> str:
    try:
        httpx.get(f"{url}/health/ready", timeout=10).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EngineDown(f"no Bakeoff service answers at {url} ({error}); start one with: bakeoff serve") from error
    return url


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = log_path.read_text(errors="replace").strip().splitlines()[-3:]
            raise EngineDown(f"the service did not start: {' / '.join(tail) or 'no word'}. Whole log: {log_path}")
        try:
            if httpx.get(f"{address}/health/ready", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise EngineDown(f"the service was not ready after {START_TIMEOUT_S} s. Its log: {log_path}")
