"""What the service adds to a request, beside LiteLLM's proxy, before the same upstream, on this machine, in one run.

    python -m venv litellm-env && litellm-env/bin/pip install -r benchmarks/requirements-gateway.txt
    python -m benchmarks.gateway --litellm litellm-env/bin/litellm

Three roads to one stand-in for vLLM (`benchmarks.upstream`): direct; through `bakeoff serve`, with an API key, every
answer stored and metrics on; through LiteLLM with a key. Each has one process. In every round all roads are taken in
turn, so that a slow moment of a shared machine hits all alike; figures are medians over rounds. With two cores or more
the gateways have the first to themselves, upstream and clients share the others. Read the ratios.

With `--upstream URL` (a running vLLM) only latency and failures mean something: the model is what takes the time.
"""

import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx

from bakeoff.cli.serve import listen
from bakeoff.database import open_database, writing
from bakeoff.domains import ensure_domain
from bakeoff.keys import create_key
from bakeoff.settings import CHECKOUT, Settings
from benchmarks.load import Tally, make_request, press
from benchmarks.upstream import MODEL

CLIENTS = (1, 16, 64, 256)
QUESTION = "Is there free parking at A and B Guest House?"
START_TIMEOUT_S = 180


@dataclass(frozen=True)
class Road:
    """One way to the upstream."""

    name: str
    port: int
    model: str
    key: str
    pid: int
    """Of the process whose memory counts; 0 for none."""


@click.command()
@click.option("--litellm", type=click.Path(exists=True, path_type=Path), help="LiteLLM's command; without it: no peer.")
@click.option("--upstream", help="A running vLLM, instead of the stand-in.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="Of each measurement.")
@click.option(
    "--clients", default=",".join(map(str, CLIENTS)), show_default=True, help="Clients at once, each in turn."
)
@click.option("--chunks", default=200, show_default=True, help="Chunks of a streamed answer of the stand-in.")
@click.option("--output", type=click.Path(path_type=Path), default="benchmarks/gateway.json", show_default=True)
def main(
    litellm: Path | None, upstream: str | None, rounds: int, seconds: float, clients: str, chunks: int, output: Path
) -> None:
    """Measure added latency, requests and streamed chunks a second, memory and failures."""
    numbers = [int(number) for number in clients.split(",")]
    with tempfile.TemporaryDirectory(prefix="bakeoff-gateway-") as folder, ExitStack() as stack:
        first, others = _share_cores()
        os.sched_setaffinity(0, others)
        home, secret = _make_home(Path(folder))
        address = upstream or f"http://127.0.0.1:{stack.enter_context(_stand_in(home, chunks, others))}"
        port = int(address.rsplit(":", 1)[1].split("/")[0])
        roads = [Road("direct", port, MODEL, "none", 0)]
        roads.append(stack.enter_context(_bakeoff(home, secret, address, first)))
        if litellm is not None:
            roads.append(stack.enter_context(_litellm(Path(folder), litellm, address, first)))
        idle = {road.name: _memory_mib(road.pid) for road in roads if road.pid}
        rows = []
        for is_stream in (False, True):
            for number in numbers:
                rows += _compare(roads, number, rounds, seconds, is_stream=is_stream)
                _print_rows(rows[-len(roads) :])
        loaded = {road.name: _memory_mib(road.pid) for road in roads if road.pid}
    summary = _summarise(rows, idle, loaded)
    report = {"machine": _describe_machine(), "rounds": rounds, "seconds": seconds, "rows": rows, "summary": summary}
    output.write_text(json.dumps(report, indent=2) + "\n")
    click.echo(json.dumps(summary, indent=2))


def _compare(
    roads: list[Road], num_clients: int, rounds: int, seconds: float, *, is_stream: bool
) -> list[dict[str, Any]]:
    tallies: dict[str, list[Tally]] = {road.name: [] for road in roads}
    for _ in range(rounds):
        for road in roads:
            messages = [{"role": "user", "content": QUESTION}]
            body = {"model": road.model, "messages": messages, "max_tokens": 64, "temperature": 0, "stream": is_stream}
            request = make_request(road.port, json.dumps(body).encode(), road.key)
            tallies[road.name].append(asyncio.run(press(road.port, request, num_clients, seconds)))
    median = lambda name, of: statistics.median(of(tally) for tally in tallies[name])
    return [
        {
            "road": road.name,
            "stream": is_stream,
            "clients": num_clients,
            "p50_ms": median(road.name, lambda tally: _quantile(tally.latencies_ms, 0.5)),
            "p99_ms": median(road.name, lambda tally: _quantile(tally.latencies_ms, 0.99)),
            "requests_per_second": median(road.name, lambda tally: tally.per_second),
            "chunks_per_second": median(road.name, lambda tally: tally.chunks_per_second),
            "failed": sum(tally.num_failed for tally in tallies[road.name]),
            "failure": next((tally.failure for tally in tallies[road.name] if tally.failure), ""),
        }
        for road in roads
    ]


def _summarise(rows: list[dict[str, Any]], idle: dict[str, float], loaded: dict[str, float]) -> dict[str, Any]:
    """The figures in question: ours against LiteLLM's."""

    def find(road: str, clients: int, *, stream: bool) -> dict[str, Any]:
        return next(row for row in rows if (row["road"], row["clients"], row["stream"]) == (road, clients, stream))

    names = [name for name in ("bakeoff", "litellm") if any(row["road"] == name for row in rows)]
    clients = {row["clients"] for row in rows}
    few, some = min(clients), 16 if 16 in clients else max(clients)
    added = {
        name: find(name, few, stream=False)["p50_ms"] - find("direct", few, stream=False)["p50_ms"] for name in names
    }
    rate = {name: find(name, some, stream=False)["requests_per_second"] for name in names}
    chunks = {name: max(row["chunks_per_second"] for row in rows if row["road"] == name) for name in names}
    failed = {name: sum(row["failed"] for row in rows if row["road"] == name) for name in names}
    summary: dict[str, Any] = {
        "added_median_ms": added,
        f"requests_per_second_at_{some}": rate,
        "chunks_per_second": chunks,
        "idle_mib": idle,
        "loaded_mib": loaded,
        "failed": failed,
    }
    if "litellm" in names:
        summary["against_litellm"] = {
            "added_median": added["bakeoff"] / added["litellm"],
            "requests_per_second": rate["bakeoff"] / rate["litellm"],
            "chunks_per_second": chunks["bakeoff"] / chunks["litellm"],
            "memory": loaded["bakeoff"] / loaded["litellm"],
        }
    return summary


@contextmanager
def _stand_in(home: Path, chunks: int, cores: set[int]) -> Iterator[int]:
    port = _free_port()
    [probe] = (home / "probes").glob("base-*.json")
    command = [sys.executable, "-m", "benchmarks.upstream", "--port", str(port), "--chunks", str(chunks)]
    command += ["--probe", str(probe)]
    with _process(command, {}, cores, f"http://127.0.0.1:{port}/v1/models"):
        yield port


def _make_home(folder: Path) -> tuple[Path, str]:
    """A home with one domain, one API key, and the base model's probe; and the key."""
    home = folder / "home"
    engine = open_database(Settings(home=home).url, home)
    with writing(engine) as connection:
        ensure_domain(connection, "bench")
        _, secret = create_key(connection, "bench")
    engine.dispose()
    command = [sys.executable, "-m", "bakeoff.cli.main", "models", "probe"]
    subprocess.run(command, env={**os.environ, "BAKEOFF_HOME": str(home)}, check=True, cwd=CHECKOUT)
    return home, secret


@contextmanager
def _bakeoff(home: Path, secret: str, upstream: str, cores: set[int]) -> Iterator[Road]:
    port = _free_port()
    command = [sys.executable, "-m", "bakeoff.cli.main", "serve", "--port", str(port), "--no-worker"]
    variables = {"BAKEOFF_HOME": str(home), "BAKEOFF_VLLM_URLS": upstream}
    with _process(command, variables, cores, f"http://127.0.0.1:{port}/health/ready") as process:
        yield Road("bakeoff", port, "bench/base", secret, process.pid)


@contextmanager
def _litellm(folder: Path, program: Path, upstream: str, cores: set[int]) -> Iterator[Road]:
    port, key = _free_port(), "sk-bench"
    parameters = {"model": f"openai/{MODEL}", "api_base": f"{upstream}/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": "bench/base", "litellm_params": parameters}],
        "general_settings": {"master_key": key},
        "litellm_settings": {"telemetry": False},
    }
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    command = [str(program), "--config", str(path), "--port", str(port), "--host", "127.0.0.1", "--num_workers", "1"]
    variables = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with _process(command, variables, cores, f"http://127.0.0.1:{port}/health/liveliness") as process:
        yield Road("litellm", port, "bench/base", key, process.pid)


@contextmanager
def _process(
    command: list[str], variables: dict[str, str], cores: set[int], url: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server on these cores, wait until it answers, end it with the block."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=log, stderr=log, cwd=CHECKOUT, start_new_session=True
        )
        os.sched_setaffinity(process.pid, cores)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not _answers(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise click.ClickException(f"{command[0]} did not start:\n{log.read().decode()[-2000:]}")
                time.sleep(0.2)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with listen("127.0.0.1", 0) as listener:
        return int(listener.getsockname()[1])


def _share_cores() -> tuple[set[int], set[int]]:
    """Cores of the gateways, and of everyone else."""
    cores = sorted(os.sched_getaffinity(0))
    return (set(cores[:1]), set(cores[1:])) if len(cores) > 1 else (set(cores), set(cores))


def _memory_mib(pid: int) -> float:
    """Proportional memory of a process and its children."""
    pids, found = [pid], 0
    while pids:
        each = pids.pop()
        try:
            found += int(Path(f"/proc/{each}/smaps_rollup").read_text().split("Pss:")[1].split()[0])
            for thread in Path(f"/proc/{each}/task").iterdir():
                pids += map(int, (thread / "children").read_text().split())
        except OSError:
            continue
    return found / 1024


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def _print_rows(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        click.echo(
            f"{'stream' if row['stream'] else 'whole ':6} {row['clients']:4} clients  {row['road']:8} "
            f"p50 {row['p50_ms']:9.2f} ms  p99 {row['p99_ms']:9.2f} ms  {row['requests_per_second']:8.0f} requests/s  "
            f"{row['chunks_per_second']:9.0f} chunks/s  {row['failed']} failed {row['failure'][:60]}"
        )


def _describe_machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine(), "python": sys.version}


if __name__ == "__main__":
    main()
