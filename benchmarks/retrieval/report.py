"""What the parts share: the machine in a line, tables, percentiles, and work in a process of its own."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np

from bakeoff.settings import Settings

_BUSY = 3.0
_PATIENCE_S = 20.0

Row = dict[str, Any]
"""One line of a table: column -> number or text."""


def describe_machine() -> Row:
    """CPU, cores, load, and the versions that matter."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    models = {line.split(":")[1].strip() for line in lines if line.startswith("model name")}
    return {
        "cpu": ", ".join(sorted(models)) or platform.processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("faiss-cpu", "numpy", "openvino", "sqlalchemy")},
        "embedder": Settings().embedder,
    }


def show_table(title: str, rows: Sequence[Row]) -> None:
    """Print rows under their columns; a column of the first row decides."""
    click.echo(f"\n{title}")
    if not rows:
        return
    columns = list(rows[0])
    cells = [[_show(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        first, *others = zip(line, widths, strict=True)
        click.echo("  " + first[0].ljust(first[1]) + "".join(f"  {text:>{width}}" for text, width in others))


def latencies_of(seconds: Sequence[float]) -> Row:
    """p50 and p99 in milliseconds."""
    p50, p99 = np.quantile(np.array(seconds) * 1000, [0.5, 0.99]).tolist()
    return {"p50 ms": round(p50, 2), "p99 ms": round(p99, 2)}


def wait_for_calm() -> float:
    """Wait, 20 seconds at most, until others leave the machine alone; returns the load then, of the last minute."""
    started = time.monotonic()
    while os.getloadavg()[0] > _BUSY and time.monotonic() < started + _PATIENCE_S:
        time.sleep(2)
    return os.getloadavg()[0]


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process, so that its memory is its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def memory_mib(field: str) -> float:
    """Resident memory of this process: `VmRSS` is now, `VmHWM` its peak (ru_maxrss would hold the parent's too)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _show(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
