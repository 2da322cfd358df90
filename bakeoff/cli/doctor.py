"""`bakeoff doctor`: what this machine has, what is missing, and how to get it."""

import importlib.metadata
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from bakeoff.cli.output import json_option, print_json
from bakeoff.cli.workspace import Workspace
from bakeoff.errors import BakeoffError
from bakeoff.models import find_embedder, find_model
from bakeoff.settings import Settings

MIN_PYTHON = (3, 11)
MIN_DISK_GIB = 2.0
MIN_MEMORY_GIB = 4.0
DEFAULT_PORT = 8000
PACKAGES = ("torch", "transformers", "peft", "sentence-transformers", "faiss-cpu", "litestar", "openvino-genai")
_GIB = 2**30


class Check(msgspec.Struct, frozen=True):
    """One thing looked at."""

    name: str
    ok: bool
    found: str
    advice: str = ""
    """What to do when it is not ok."""


@click.command("doctor")
@json_option()
def doctor_command(as_json: bool) -> None:
    """Check versions, models, disk, memory, database and port; exit 1 when something needed is missing."""
    workspace = Workspace()
    settings = workspace.settings
    checks = [
        _check_python(),
        *(_check_package(name) for name in PACKAGES),
        _check("base model", lambda: str(find_model(settings))),
        _check("embedder", lambda: str(find_embedder(settings))),
        _check_engine(settings),
        _check_disk(settings.home),
        _check_memory(),
        _check("database", lambda: str(workspace.engine.url)),
        _check_port(),
    ]
    if as_json:
        print_json({"ok": all(check.ok for check in checks), "checks": checks})
    else:
        for check in checks:
            advice = f"  -> {check.advice}" if not check.ok else ""
            click.echo(f"{'ok     ' if check.ok else 'MISSING'} {check.name}: {check.found}{advice}")
    if not all(check.ok for check in checks):
        sys.exit(1)


def _check(name: str, find: Callable[[], str]) -> Check:
    try:
        return Check(name, True, find())
    except BakeoffError as error:
        return Check(name, False, "not usable", str(error))


def _check_python() -> Check:
    found = ".".join(str(part) for part in sys.version_info[:3])
    return Check("Python", sys.version_info >= MIN_PYTHON, found, "install Python 3.11 or newer")


def _check_package(name: str) -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "not installed", "make install")


def _check_engine(settings: Settings) -> Check:
    from service.embedded.export import find_export

    def find() -> str:
        return str(find_export(find_model(settings), settings.models / "engines", settings.engine_precision))

    return _check("embedded engine's model", find)


def _check_disk(home: Path) -> Check:
    existing = next(folder for folder in (home.resolve(), *home.resolve().parents) if folder.exists())
    free = shutil.disk_usage(existing).free / _GIB
    advice = f"free {MIN_DISK_GIB:.0f} GiB, or set BAKEOFF_HOME to a folder on a larger disk"
    return Check("free disk", free >= MIN_DISK_GIB, f"{free:.1f} GiB at {existing}", advice)


def _check_memory() -> Check:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    except (ValueError, OSError):
        return Check("memory", True, "not known on this system")
    return Check("memory", total >= MIN_MEMORY_GIB, f"{total:.1f} GiB", f"the demo needs {MIN_MEMORY_GIB:.0f} GiB")


def _check_port() -> Check:
    with socket.socket() as probe:
        is_taken = probe.connect_ex(("127.0.0.1", DEFAULT_PORT)) == 0
    found = f"{DEFAULT_PORT} is in use" if is_taken else f"{DEFAULT_PORT} is free"
    return Check("port", not is_taken, found, "end what uses it, or choose another with --port")
