"""What OpenAI's own test-suite asks for: the example ids of its API description, as real rows, files and an adapter.

Every object is made by the service itself and then put under its example id. What a test deletes or changes is made
anew, from a copy taken at the start.
"""

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from corpus import CORPUS
from small_adapters import write_small_adapter
from sqlalchemy import ColumnElement, Connection, Engine, Table, delete, insert, select

from bakeoff.adapters import adapters_table, register_adapter
from bakeoff.artefacts import adapters_dir
from bakeoff.database import reading, writing
from bakeoff.jobs import job_events_table, jobs_table
from bakeoff.records import Document
from bakeoff.settings import Settings
from retrieval.catalogue import documents_of_upload
from retrieval.embedder import Embedder
from retrieval.store import add_documents
from service.openai.aliases import embedder_name
from service.openai.files.folder import files_dir
from service.openai.vector_stores.records import Batch, Entry, Store, insert_store, put_entries, settle_entry
from service.tables import (
    files_table,
    stored_objects_table,
    vector_store_batches_table,
    vector_store_files_table,
    vector_stores_table,
)

DOMAIN = "openai-tests"
MODELS = ("gpt-6-astra", "gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-5.4", "gpt-3.5-turbo-instruct", "model")
EMBEDDERS = ("text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002")
FINE_TUNED = "ft:gpt-4o-mini:acemeco:suffix:abc123"
FILES = ("file-abc123", "file_id", "string")
STORES = ("vs_abc123", "vector_store_id")
BATCHES = {"vsfb_abc123": "vs_abc123", "batch_id": "vector_store_id"}
COMPLETIONS = ("completion_id",)
RESPONSES = ("resp_677efb5139a88190b512bc3fef8e535d", "response_id", "previous_response_id", "resp_123")
JOBS = ("ft-AF1WoRqd3aJAHsqc9NY7iL8F",)
IDS = frozenset((*FILES, *STORES, *BATCHES, *COMPLETIONS, *RESPONSES, *JOBS, FINE_TUNED))
"""Whatever stands in the address of a request that changes something has to be made anew after it."""

_HOURS = ("seven", "eight", "nine")
_TEXT = "\n".join(
    json.dumps({"messages": [{"role": "user", "content": "When?"}, {"role": "assistant", "content": f"At {hour}."}]})
    for hour in _HOURS
)
_ROWS: tuple[tuple[Table, str, Sequence[str]], ...] = (
    (files_table, "id", FILES),
    (vector_stores_table, "id", STORES),
    (vector_store_batches_table, "store_id", STORES),
    (vector_store_files_table, "store_id", STORES),
    (stored_objects_table, "id", (*COMPLETIONS, *RESPONSES)),
    (jobs_table, "id", JOBS),
    (job_events_table, "job_id", JOBS),
    (adapters_table, "domain", (DOMAIN,)),
)
"""Parents before children: (table, column, values of it that are ours)."""


def seed_domain(engine: Engine, home: Path, embedder: Embedder, base_dir: Path) -> str:
    """Make the domain that every model of theirs stands for, before the service starts.

    Returns:
        the setting `model_aliases`.
    """
    add_documents(engine, DOMAIN, CORPUS, embedder, lambda *_: None)
    digest = write_small_adapter(home, base_dir, DOMAIN)
    with writing(engine) as connection:
        register_adapter(connection, DOMAIN, digest)
    aliases = dict.fromkeys(MODELS, f"{DOMAIN}/rag") | dict.fromkeys(EMBEDDERS, embedder_name(Settings()))
    aliases[FINE_TUNED] = f"{DOMAIN}/fine-tuned@{digest}"
    return ",".join(f"{alias}={target}" for alias, target in aliases.items())


class Seeds:
    """Keeps the example objects there."""

    def __init__(self, engine: Engine, home: Path, embedder: Embedder) -> None:
        self._engine = engine
        self._home = home
        self._embedder = embedder
        self._rows: list[tuple[Table, ColumnElement[bool], list[dict[str, Any]]]] = []
        self._contents: dict[str, bytes] = {}

    def make(self, url: str) -> None:
        """Make them all.

        Args:
            url: of the running service.
        """
        with httpx.Client(base_url=url, timeout=120) as client:
            for file_id in FILES:
                made = client.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("train.txt", _TEXT)})
                self._rename(files_table, "id", _id_of(made), file_id)
            question: dict[str, Any] = {"model": "gpt-4o-mini", "store": True}
            for completion_id in COMPLETIONS:
                # Their type for stored messages knows assistants only.
                body = question | {"messages": [{"role": "assistant", "content": "When is breakfast?"}]}
                made = client.post("/v1/chat/completions", json=body)
                self._rename(stored_objects_table, "id", _id_of(made), completion_id)
            for response_id in RESPONSES:
                made = client.post("/v1/responses", json=question | {"input": "When is breakfast?"})
                self._rename(stored_objects_table, "id", _id_of(made), response_id)
            for job_id in JOBS:
                body = {"model": "gpt-4o-mini", "training_file": FILES[0]}
                made = client.post("/v1/fine_tuning/jobs", json=body)
                self._rename(jobs_table, "id", _id_of(made), job_id, (job_events_table, "job_id"))
        self._fill_stores()
        self._remember()

    def renew(self) -> None:
        """Make anew what is gone or was changed."""
        with writing(self._engine) as connection:
            for table, is_ours, _ in reversed(self._rows):
                connection.execute(delete(table).where(is_ours))
            for table, _, rows in self._rows:
                if rows:
                    connection.execute(insert(table), rows)
        for name, content in self._contents.items():
            path = files_dir(self._home) / name
            if not path.is_file():
                path.write_bytes(content)
        shutil.copytree(self._home / "kept", adapters_dir(self._home), dirs_exist_ok=True)
        self._add_documents()

    def _fill_stores(self) -> None:
        now = datetime.now(UTC)
        with writing(self._engine) as connection:
            for store_id in STORES:
                insert_store(connection, Store(store_id, "", DOMAIN, False, "name", "", {}, now, now, None))
            for (batch_id, store_id), file_id in zip(BATCHES.items(), FILES, strict=False):
                batch = Batch(batch_id, store_id, now, "in_progress")
                values = {name: getattr(batch, name) for name in batch.__struct_fields__}
                connection.execute(insert(vector_store_batches_table).values(**values))
                entry = Entry(store_id, file_id, batch_id, now, "in_progress", None, {}, {}, 0)
                put_entries(connection, [entry])
                settle_entry(connection, entry, "completed", usage_bytes=len(_TEXT))
        self._add_documents()

    def _add_documents(self) -> None:
        with reading(self._engine) as connection:
            missing = [name for name in FILES if not documents_of_upload(connection, DOMAIN, name)]
        if missing:
            documents = [Document(name, "train.txt", _TEXT) for name in missing]
            add_documents(self._engine, DOMAIN, documents, self._embedder, lambda *_: None)

    def _remember(self) -> None:
        with reading(self._engine) as connection:
            for table, column, values in _ROWS:
                is_ours = table.c[column].in_(values)
                rows = [dict(row) for row in connection.execute(select(table).where(is_ours)).mappings()]
                self._rows.append((table, is_ours, rows))
                if table is files_table:
                    names = [row["stored_as"] for row in rows]
        self._contents = {name: (files_dir(self._home) / name).read_bytes() for name in names}
        shutil.copytree(adapters_dir(self._home), self._home / "kept")

    def _rename(self, table: Table, column: str, old: str, new: str, *children: tuple[Table, str]) -> None:
        """Put a row, its children and every mention of its id in them under another id."""
        with writing(self._engine) as connection:
            moved = [(place, _take(connection, *place, old)) for place in ((table, column), *children)]
            connection.execute(delete(table).where(table.c[column] == old))
            for (each, _), rows in moved:
                connection.execute(insert(each), [_with_id(row, old, new) for row in rows])


def _take(connection: Connection, table: Table, column: str, value: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(select(table).where(table.c[column] == value)).mappings()]


def _with_id(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {name: _with_id(each, old, new) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_id(each, old, new) for each in value]
    return new if value == old else value


def _id_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])
