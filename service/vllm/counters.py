"""vLLM's own counters -> the few figures that tell how well it serves us."""

import re
from collections.abc import Iterable, Mapping

_NAMES = {
    "vllm:prefix_cache_queries_total": "prefix_cache_queries",
    "vllm:prefix_cache_hits_total": "prefix_cache_hits",
    "vllm:num_requests_running": "requests_running",
    "vllm:num_requests_waiting": "requests_waiting",
    "vllm:kv_cache_usage_perc": "kv_cache_usage",
}
_LINE = re.compile(r"^(?P<name>[\w:]+)(?:\{[^}]*\})? (?P<value>\S+)$", re.MULTILINE)


def read_counters(text: str) -> dict[str, float]:
    """The counters we know, from Prometheus' text form; several of one name (engines of one server) are added up."""
    found: dict[str, float] = {}
    for match in _LINE.finditer(text):
        name = _NAMES.get(match["name"])
        if name is not None:
            found[name] = found.get(name, 0.0) + float(match["value"])
    return found


def sum_counters(counters: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The counters of all servers together, and the share of prompt tokens that their prefix caches held."""
    total: dict[str, float] = {}
    count = 0
    for figures in counters:
        count += bool(figures)
        for name, value in figures.items():
            total[name] = total.get(name, 0.0) + value
    if "kv_cache_usage" in total:
        total["kv_cache_usage"] /= count
    queries = total.get("prefix_cache_queries", 0.0)
    total["prefix_cache_hit_rate"] = total.get("prefix_cache_hits", 0.0) / queries if queries else 0.0
    return total
