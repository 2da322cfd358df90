"""`bakeoff worker`: runs queued jobs, one heavy one (train, eval) at a time and light ones (ingest) beside it.

`bakeoff serve` starts one beside itself; several on one home, or on many machines with one database, share the jobs.
"""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from bakeoff.cli.output import say
from bakeoff.cli.workspace import Workspace

RESTART_AFTER_S = 5.0
STOP_TIMEOUT_S = 20
DEFAULT_LIGHT = 2


@click.command("worker")
@click.option("--once", is_flag=True, help="End when nothing is queued any more.")
@click.option(
    "--light", default=DEFAULT_LIGHT, show_default=True, type=click.IntRange(0, 64), help="Light jobs at a time."
)
@click.option("--until-eof", is_flag=True, hidden=True, help="End when stdin does: with the process that started it.")
def worker_command(once: bool, light: int, until_eof: bool) -> None:
    """Run queued jobs until Ctrl-C, which hands back what runs.

    Heavy jobs (train, eval) take turns on a machine: BAKEOFF_HEAVY_JOBS at a time. The job of a worker that dies is
    taken over by another, or by the next one that is started.
    """
    from bakeoff.worker.loop import Worker

    workspace = Workspace()
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)
    if until_eof:
        threading.Thread(target=_stop_at_eof, args=(stop,), daemon=True).start()
    settings = workspace.settings
    worker = Worker(workspace.engine, settings.home.resolve(), num_light=light, num_heavy=settings.heavy_jobs)
    if not until_eof:
        say("Waiting for jobs. Ctrl-C ends." if not once else "Running what is queued.")
    worker.run(stop.is_set, once=once)


def _stop_at_eof(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()


@contextmanager
def worker_beside() -> Iterator[None]:
    """A worker that runs as long as the block does; started again if it ends before."""
    is_over = threading.Event()
    process = _start()

    def watch() -> None:
        nonlocal process
        while True:
            process.wait()
            if is_over.wait(RESTART_AFTER_S):
                return
            say("The worker has ended; starting another.")
            process = _start()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
        watcher.join(RESTART_AFTER_S)


def _start() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "bakeoff.cli.main", "worker", "--until-eof"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
