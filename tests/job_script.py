"""Stands in for the command line where only the worker is tested: `job_script.py --progress-fd N WORDS... --json`."""

import json
import os
import signal
import sys
import time
from pathlib import Path

fd, [word, *rest] = int(sys.argv[2]), sys.argv[3:-1]


def report(**line: object) -> None:
    os.write(fd, json.dumps(line).encode() + b"\n")


if word == "note":  # says that it ran, in a file, and ends
    with Path(rest[0]).open("a") as file:
        file.write(f"{rest[1]}\n")
    sys.stdout.write(json.dumps({"said": rest[1]}))
elif word == "fail":
    sys.stderr.write("a line before\nError: the file is no good. Mend it\n")
    sys.exit(1)
elif word == "crash":
    os.kill(os.getpid(), signal.SIGKILL)
elif word == "flood":  # more events than a pipe holds, one of them no JSON
    os.write(fd, b"no json\n")
    for step in range(1, 2001):
        report(title="Flooding", done=step, total=2000, note="x" * 50)
    report(metrics={"step": 7, "train_loss": 0.5, "valid_loss": None})
    sys.stdout.write(json.dumps({}))
elif word == "wait":  # until it is interrupted; a second run with the same file ends well
    path = Path(rest[0])
    if path.exists():
        sys.stdout.write(json.dumps({"resumed": True}))
        sys.exit(0)
    if "deaf" in rest:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    path.write_text(str(os.getpid()))
    report(title="Waiting", done=1, total=10, note="")
    try:
        time.sleep(120)
    except KeyboardInterrupt:
        sys.exit(130)
