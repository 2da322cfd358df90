"""Retrieval measured on this machine in one run: embedding, index, whole search, quality, freshness, and a peer.

    python -m benchmarks.retrieval                                      # the sample domain
    python -m benchmarks.retrieval --data DIR --cache DIR --json FILE   # folders of sets; see sets.py
    python -m benchmarks.retrieval --only index --sizes 10000,100000

Run it from the checkout. `quality` needs benchmarks/requirements.txt; `peer` makes an environment of its own.
"""

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import click

from bakeoff.settings import CHECKOUT

PARTS = ("embedding", "index", "search", "quality", "freshness", "peer")


@click.command(help=__doc__)
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=CHECKOUT / "samples",
    help="Folder of sets. Default: samples.",
)
@click.option("--sets", "names", default="", help="Sets to use, by comma. Default: all in the folder.")
@click.option("--sizes", default="10000,100000,1000000", show_default=True, help="Vectors in the index part.")
@click.option("--only", default=",".join(PARTS), show_default=True, help="Parts to run, by comma.")
@click.option("--cache", type=click.Path(path_type=Path), help="Keeps what was embedded. Default: a temporary folder.")
@click.option("--chunks", default=100_000, show_default=True, help="Chunks in the search part.")
@click.option("--seconds", default=200, show_default=True, help="Of steady edits in the freshness part.")
@click.option("--burst", default=1_000, show_default=True, help="Edits of the burst in the freshness part.")
@click.option("--hnsw-1m", is_flag=True, help="Build HNSW at sizes above 100,000 too: many minutes.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures to this file.")
def main(cache: Path | None, only: str, output: Path | None, **options: Any) -> None:
    """Measure retrieval, print tables, write JSON."""
    parts = only.split(",")
    if unknown := set(parts) - set(PARTS):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}", param_hint="--only")
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as temporary:
        figures, failed = _measure(parts, cache or Path(temporary), **options)
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n")
        click.echo(f"\nwritten to {output}")
    if failed:
        raise SystemExit("\n".join(["", "not as it must be:", *failed]))


def _measure(
    parts: list[str],
    cache: Path,
    *,
    data: Path,
    names: str,
    sizes: str,
    chunks: int,
    seconds: int,
    burst: int,
    hnsw_1m: bool,
    seed: int,
) -> tuple[dict[str, Any], list[str]]:
    """Returns the figures of every part, and what missed its target."""
    from benchmarks.retrieval import embedding, freshness, index, peer, quality, search
    from benchmarks.retrieval.report import describe_machine
    from benchmarks.retrieval.sets import open_ours, open_sets

    embedder = open_ours()
    machine = describe_machine()
    click.echo("machine: " + ", ".join(f"{name} {value}" for name, value in machine.items()))
    sets = open_sets(data, [name for name in names.split(",") if name], cache, embedder, seed)
    click.echo("sets: " + ", ".join(f"{each.name} ({len(each.documents)} documents)" for each in sets))
    figures: dict[str, Any] = {"machine": machine, "seed": seed}
    failed: list[str] = []
    if "embedding" in parts:
        figures["embedding"] = embedding.measure_embedding([data / each.name for each in sets])
    if "quality" in parts:
        figures["quality"] = quality.measure_quality(sets, embedder)
        failed += quality.find_failures(figures["quality"])
    if "index" in parts:
        wanted = [int(size) for size in sizes.split(",")]
        figures["index"] = index.measure_index(sets, wanted, embedder, cache, seed, hnsw_1m=hnsw_1m)
        failed += index.find_failures(figures["index"])
    if "search" in parts:
        figures["search"] = search.measure_search(sets, chunks, embedder, cache, seed)
        failed += search.find_failures(figures["search"])
    if "freshness" in parts:
        figures["freshness"] = freshness.measure_freshness(sets, seconds, burst, cache, seed)
        failed += freshness.find_failures(figures["freshness"])
    if "peer" in parts:
        figures["peer"] = peer.measure_peer(sets, embedder, cache, seed)
    return figures, failed


if __name__ == "__main__":
    main()
