"""The worker's loop: take jobs while there is room, listen to those that run, bring wish and being together.

One thread does all of it, in turns of a fifth of a second at most. When the database cannot be reached, running jobs
go on, and what happened to them is written when it can be again.
"""

import logging
import select
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from bakeoff.database import reading, writing
from bakeoff.jobs import Job, add_event, find_job
from bakeoff.worker.child import STOP_GRACE_S, Child, Outcome, Report
from bakeoff.worker.claims import (
    beat,
    claim_job,
    end_job,
    give_up_or_requeue,
    hand_back,
    has_queued,
    name_worker,
    recover_jobs,
)
from bakeoff.worker.slots import take_slot

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "bakeoff.cli.main")
TURN_S = 0.2
LOOK_EVERY_S = 0.5
"""Between two looks at the queue, and between two signs of life: at most so many writes for each job."""
RECOVER_EVERY_S = 5.0


class Worker:
    """Runs jobs until it is told to stop."""

    def __init__(
        self, engine: Engine, home: Path, *, num_light: int = 2, num_heavy: int = 1, command: Sequence[str] = COMMAND
    ) -> None:
        """Make a worker that does nothing yet.

        Args:
            home: holds logs and the locks of heavy jobs.
            num_light: light jobs that this worker runs at a time.
            num_heavy: heavy jobs that all workers of this machine and home run at a time.
            command: what runs a job's words.
        """
        self._engine = engine
        self._home = home
        self._num_light = num_light
        self._num_heavy = num_heavy
        self._command = command
        self._me = name_worker()
        self._name = str(self._me)
        self._running: dict[str, Child] = {}
        self._pending: list[tuple[str, Report]] = []
        self._titles: dict[str, str] = {}
        self._looked = self._recovered = float("-inf")

    def run(self, should_stop: Callable[[], bool], *, once: bool = False) -> None:
        """Work until told to stop, or, once, until nothing is queued and nothing runs; then hand back what runs."""
        try:
            while not should_stop():
                try:
                    if not self._turn() and once:
                        return
                except SQLAlchemyError as error:
                    logger.error("the database cannot be reached; jobs that run go on error=%s", error)
                    time.sleep(1)
        finally:
            self._end()

    def _turn(self) -> bool:
        """Do what there is to do; return whether anything runs or waits."""
        self._listen()
        self._settle()
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY_S:
            return True
        self._looked = now
        self._beat()
        if now - self._recovered >= RECOVER_EVERY_S:
            self._recovered = now
            with writing(self._engine) as connection:
                for job_id in recover_jobs(connection, self._me):
                    logger.warning("recovered job=%s", job_id)
        waits = [self._take(is_heavy=is_heavy) for is_heavy in (True, False)]
        return bool(self._running) or any(waits)

    def _take(self, *, is_heavy: bool) -> bool:
        """Start as many queued jobs of one weight as there is room for; return whether any wait."""
        while True:
            with reading(self._engine) as connection:
                if not has_queued(connection, is_heavy=is_heavy):
                    return False
            num_light = sum(not child.job.is_heavy for child in self._running.values())
            if not is_heavy and num_light >= self._num_light:
                return True
            slot = take_slot(self._home, self._num_heavy) if is_heavy else None
            if is_heavy and slot is None:
                return True
            try:
                with writing(self._engine) as connection:
                    job = claim_job(connection, self._name, is_heavy=is_heavy)
            except BaseException:
                if slot is not None:  # or no heavy job would start here any more
                    slot.release()
                raise
            if job is None:
                if slot is not None:
                    slot.release()
                return False
            logger.info("started job=%s arguments=%s", job.id, " ".join(job.arguments))
            try:
                self._running[job.id] = Child(job, self._home, self._command, slot)
            except (OSError, ValueError) as error:
                self._write_end(job, Outcome(1, False, None, f"the command cannot be started: {error}"))

    def _listen(self) -> None:
        """Wait a moment for what the jobs report."""
        pipes = {child.pipe: child for child in self._running.values()}
        ready, _, _ = select.select(list(pipes), [], [], TURN_S)
        found = [(pipes[pipe].job.id, report) for pipe in ready for report in pipes[pipe].read()]
        self._pending += found
        if ready and not found:
            time.sleep(TURN_S / 10)  # the pipe of a process that is just ending is always ready

    def _settle(self) -> None:
        """Write down the end of every job whose process has ended."""
        for job_id, child in list(self._running.items()):
            outcome = child.poll()
            if outcome is None:
                continue
            while reports := child.read():
                self._pending += [(job_id, report) for report in reports]
            self._write_reports()
            self._write_end(child.job, outcome, child)
            child.close()
            del self._running[job_id]
            self._titles.pop(job_id, None)
            self._looked = float("-inf")  # there is room for another: no need to wait

    def _beat(self) -> None:
        """Give a sign of life for each job, and heed what is wished of it."""
        if not self._running:
            return
        self._write_reports()
        wishes: dict[str, str | None] = {}
        with writing(self._engine) as connection:
            for job_id, child in self._running.items():
                wishes[job_id] = beat(connection, self._name, job_id, child.progress)
        for job_id, wish in wishes.items():
            if wish is None:
                logger.error("lost to another worker job=%s", job_id)
                self._running[job_id].kill()
            elif wish:
                self._running[job_id].stop()

    def _write_reports(self) -> None:
        """Add figures, and each new step of a job, to its events."""
        if not self._pending:
            return
        with writing(self._engine) as connection:
            for job_id, report in self._pending:
                if report.metrics:
                    message = ", ".join(
                        f"{name.replace('_', ' ')} {value:.4g}"
                        for name, value in report.metrics.items()
                        if value is not None
                    )
                    add_event(connection, job_id, message, kind="metrics", data=report.metrics)
                elif report.title != self._titles.get(job_id):
                    self._titles[job_id] = report.title
                    add_event(connection, job_id, report.title)
        self._pending.clear()

    def _write_end(self, job: Job, outcome: Outcome, child: Child | None = None) -> None:
        with writing(self._engine) as connection:
            if child is not None:
                beat(connection, self._name, job.id, child.progress)
            now = find_job(connection, job.id)
            if now.worker != self._name or now.status != "running":
                return
            if outcome.code == 0:
                end_job(connection, self._name, job.id, "succeeded", result=outcome.result or {})
            elif outcome.was_stopped:
                if now.wish:
                    end_job(connection, self._name, job.id, "cancelled" if now.wish == "cancel" else "paused")
                else:  # resumed while it was stopping
                    hand_back(connection, self._name, job.id)
            elif outcome.code < 0:
                give_up_or_requeue(connection, now, outcome.error)
            else:
                end_job(connection, self._name, job.id, "failed", error=outcome.error)
        logger.info("ended job=%s status=%s %s", job.id, outcome.code, outcome.error)

    def _end(self) -> None:
        """Stop what runs and queue it again."""
        deadline = time.monotonic() + STOP_GRACE_S
        while self._running:
            for child in self._running.values():
                child.stop()
            if time.monotonic() > deadline:
                for child in self._running.values():
                    child.kill()
            self._listen()
            try:
                self._settle()
            except SQLAlchemyError as error:
                logger.error("the database cannot be reached; another worker takes over later error=%s", error)
                for child in self._running.values():
                    child.kill()
                    child.close()
                return
