"""What schemathesis draws, with names that exist put in most of the time: random ones would reach nothing but 404.

Loaded by its command line (`SCHEMATHESIS_HOOKS`), see `service/test_schemathesis.py`.
"""

from typing import Any

import schemathesis
from openai_description import map_discriminators

CHAT = "gpt-4o-mini"
NAMES = {
    "vector_store_id": "vs_abc123",
    "file_id": "file-abc123",
    "batch_id": "vsfb_abc123",
    "fine_tuning_job_id": "ft-AF1WoRqd3aJAHsqc9NY7iL8F",
    "job_id": "ft-AF1WoRqd3aJAHsqc9NY7iL8F",
    "response_id": "response_id",
    "completion_id": "completion_id",
    "model": CHAT,
    "training_file": "file-abc123",
}
KEPT = 4
"""One in so many stays as it was drawn."""


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Read OpenAI's description as it is meant."""
    map_discriminators(raw_schema, raw_schema["components"]["schemas"])


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Name what is there."""
    if path_parameters and _is_chosen(path_parameters):
        return {name: NAMES.get(name, value) for name, value in path_parameters.items()}
    return path_parameters


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Ask a model that is there."""
    if not isinstance(body, dict) or not _is_chosen(body):
        return body
    names = {**NAMES, "model": "text-embedding-3-small"} if context.operation.path.endswith("/embeddings") else NAMES
    return {name: names.get(name, value) for name, value in body.items()}


def _is_chosen(drawn: dict[str, Any]) -> bool:
    return sum(map(ord, str(drawn))) % KEPT > 0
