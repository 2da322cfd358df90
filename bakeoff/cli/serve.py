"""`bakeoff serve`: the chat service in the foreground; and a private one for commands that need answers."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import httpx

from bakeoff.cli.output import say
from bakeoff.cli.workspace import Workspace
from bakeoff.errors import BadInput, EngineDown

if TYPE_CHECKING:
    import uvicorn

LOOPBACK = ("127.0.0.1", "localhost", "::1")
START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 10


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 picks a free one.")
@click.option("--until-eof", is_flag=True, hidden=True, help="End when stdin does: with the process that started it.")
def serve_command(host: str, port: int, until_eof: bool) -> None:
    """Serve every domain in every mode behind the OpenAI API, with a web page at /.

    It has no keys yet: on another address than 127.0.0.1, whoever reaches the port may ask.
    """
    import uvicorn

    settings = Workspace().settings
    listener = listen(host, port)
    from service.app import create_app

    address = f"http://{host}:{listener.getsockname()[1]}"
    say(f"Loading the model; then serving on {address} (web page at /, OpenAI API at /v1). Ctrl-C ends.")
    if host not in LOOPBACK:
        say(f"Warning: {host} is not this machine alone, and there are no keys: whoever reaches the port may ask.")
    config = uvicorn.Config(create_app(settings), log_config=None, access_log=False, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    if until_eof:
        threading.Thread(target=_stop_at_eof, args=(server,), daemon=True).start()
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        say("Stopped.")
    if not server.started:
        raise EngineDown("the service did not start; the lines above say why. See also: bakeoff doctor")


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


@contextmanager
def running_service(url: str | None, home: Path, port: int = 0) -> Iterator[str]:
    """A service to talk to: the one at `url`, or a private one that ends with the block.

    Args:
        home: where the private one writes its log.
        port: of the private one on 127.0.0.1; 0 picks a free one.

    Yields:
        Its base address.

    Raises:
        EngineDown: nothing answers at `url`, or the private one did not start.
    """
    if url is not None:
        yield _check_url(url.rstrip("/"))
        return
    listener = listen("127.0.0.1", port)
    port = listener.getsockname()[1]
    listener.close()
    home.mkdir(parents=True, exist_ok=True)
    log_path = home / "service.log"
    command = [sys.executable, "-m", "bakeoff.cli.main", "--verbose", "serve", "--port", str(port), "--until-eof"]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_until_ready(address, process, log_path)
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


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
