"""The life of an adapter in the database, and what its folder has to be."""

import threading
from collections.abc import Iterator
from pathlib import Path

import alembic.command
import alembic.config
import numpy as np
import pytest
from alembic.migration import MigrationContext
from small_adapters import MODULES, hash_base, make_tensors, write_small_adapter
from sqlalchemy import Connection, Engine, create_engine, text

from bakeoff.adapter_files import check_adapter_folder
from bakeoff.adapters import (
    Check,
    GateReport,
    find_adapter,
    is_open,
    list_adapters,
    list_events,
    record_event,
    register_adapter,
    tell_history,
    unregister_adapter,
)
from bakeoff.artefacts import adapters_dir
from bakeoff.card import CARD_FILE, describe_adapter, write_card
from bakeoff.database import MIGRATIONS, open_database, reading, writing
from bakeoff.domains import delete_domain, ensure_domain, find_domain
from bakeoff.errors import BadInput, Mismatch, NotFound
from bakeoff.promotions import promote_adapter, roll_back_adapter

A, B, C, D = ("a" * 16, "b" * 16, "c" * 16, "d" * 16)


def passing(digest: str, against: str | None = None) -> GateReport:
    return GateReport(digest, against, (Check("parity", True, "equal to 0.001 nats", {"difference": 0.001}),))


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        ensure_domain(connection, "d")
        ensure_domain(connection, "other")
        for digest in (A, B, C):
            register_adapter(connection, "d", digest)
        register_adapter(connection, "other", A)
        yield connection


def promote(connection: Connection, *digests: str) -> None:
    for digest in digests:
        promote_adapter(connection, "d", digest, passing(digest, find_domain(connection, "d").adapter))


def serving(connection: Connection) -> str | None:
    return find_domain(connection, "d").adapter


def test_a_registered_adapter_serves_nobody_and_is_found_by_its_first_digits(
    connection: Connection, tmp_path: Path
) -> None:
    assert serving(connection) is None
    register_adapter(connection, "d", A)
    assert [(a.digest, a.promoted) for a in list_adapters(connection, tmp_path, "d")] == [
        (C, False),
        (B, False),
        (A, False),
    ]
    assert [event.event for event in list_events(connection, "d", A)] == ["registered"]
    assert find_adapter(connection, tmp_path, "d", "aaaaaaaa").digest == A
    with pytest.raises(NotFound, match="bakeoff adapters list"):
        find_adapter(connection, tmp_path, "other", "bbbbbbbb")


def test_a_promotion_is_recorded_with_report_and_user(connection: Connection, tmp_path: Path) -> None:
    promote_adapter(connection, "d", A, passing(A), by="ada")
    assert [adapter.promoted for adapter in list_adapters(connection, tmp_path, "d")] == [False, False, True]
    assert find_domain(connection, "other").adapter is None
    event = list_events(connection, "d", A)[-1]
    assert (event.event, event.by, event.reason) == ("promoted", "ada", "")
    assert event.details["gate"]["checks"][0]["figures"] == {"difference": 0.001}
    promote(connection, B)
    assert list_events(connection, "d", B)[-1].details["from"] == A


def test_what_the_gate_did_not_pass_needs_a_reason_that_is_kept(connection: Connection) -> None:
    failed = GateReport(A, None, (Check("parity", True, "equal"), Check("validation", False, "worse by 0.3 nats")))
    for report in (failed, GateReport(A, None, ()), None):
        with pytest.raises(BadInput, match="reason"):
            promote_adapter(connection, "d", A, report, "  ")
    assert serving(connection) is None
    promote_adapter(connection, "d", A, failed, "the demo is today")
    assert (serving(connection), list_events(connection, "d", A)[-1].reason) == (A, "the demo is today")


def test_a_gate_that_compared_with_another_adapter_promotes_nothing(connection: Connection) -> None:
    promote(connection, B)
    with pytest.raises(Mismatch, match="since then bbbb"):
        promote_adapter(connection, "d", A, passing(A, None))
    with pytest.raises(NotFound, match="has no adapter"):
        promote_adapter(connection, "d", D, passing(D, B))
    assert serving(connection) == B


def test_rolling_back_goes_back_step_by_step_past_what_was_removed(connection: Connection) -> None:
    with pytest.raises(NotFound, match="no adapter served d before"):
        roll_back_adapter(connection, "d")
    register_adapter(connection, "d", D)
    promote(connection, A, B, C, D)
    unregister_adapter(connection, "d", B)
    assert [roll_back_adapter(connection, "d") for _ in range(2)] == [C, A]
    assert serving(connection) == A
    with pytest.raises(NotFound, match="before the present one"):
        roll_back_adapter(connection, "d")
    promote(connection, C)
    assert roll_back_adapter(connection, "d", reason="complaints") == A
    event = list_events(connection, "d", A)[-1]
    assert (event.event, event.reason, event.details) == ("rolled back", "complaints", {"from": C})


def test_rolling_back_to_an_adapter_wants_one_that_served(connection: Connection) -> None:
    promote(connection, A, B)
    for never in (C, D):
        with pytest.raises(NotFound, match="never served"):
            roll_back_adapter(connection, "d", never)
    assert roll_back_adapter(connection, "d", A) == A


def test_the_serving_adapter_cannot_be_removed_and_history_outlives_the_others(connection: Connection) -> None:
    promote(connection, A, B)
    with pytest.raises(BadInput, match="rollback"):
        unregister_adapter(connection, "d", B)
    assert unregister_adapter(connection, "d", A, "old") is False, "the other domain has it too"
    assert unregister_adapter(connection, "other", A) is True
    assert [event.event for event in list_events(connection, "d", A)] == ["registered", "promoted", "removed"]
    with pytest.raises(NotFound):
        unregister_adapter(connection, "d", A)
    delete_domain(connection, "d")
    assert list_events(connection, "d") == []


def test_opening_holds_until_closed_and_in_one_domain(connection: Connection) -> None:
    states = []
    for event in ("opened", "audited", "closed", "opened"):
        record_event(connection, "d", A, event)
        states.append((is_open(connection, "d", A), is_open(connection, "other", A)))
    assert states == [(True, False), (True, False), (False, False), (True, False)]


def test_a_reader_sees_the_old_adapter_with_the_old_history_or_the_new_with_the_new(engine: Engine) -> None:
    with writing(engine) as connection:
        ensure_domain(connection, "d")
        for digest in (A, B):
            register_adapter(connection, "d", digest)
        promote_adapter(connection, "d", A, None, "first")
    seen: list[bool] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with reading(engine) as connection:
                last = [event.digest for event in list_events(connection, "d") if event.event == "promoted"][-1]
                seen.append(find_domain(connection, "d").adapter == last)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        with writing(engine) as connection:
            promote_adapter(connection, "d", (B, A)[number % 2], None, "again")
    done.set()
    reader.join()
    assert len(seen) > 5
    assert all(seen)


def test_a_failed_transaction_leaves_neither_adapter_nor_event(engine: Engine) -> None:
    with writing(engine) as connection:
        ensure_domain(connection, "d")
        register_adapter(connection, "d", A)

    def fail() -> None:
        with writing(engine) as connection:
            promote_adapter(connection, "d", A, None, "x")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        fail()
    with reading(engine) as connection:
        assert (serving(connection), len(list_events(connection, "d"))) == (None, 1)


def migrate_to(engine: Engine, revision: str) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        before = MigrationContext.configure(connection).get_current_revision() or ""
        (alembic.command.upgrade if before < revision else alembic.command.downgrade)(config, revision)


def test_adapters_of_the_second_revision_come_over_with_a_history(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    old = create_engine(url)
    migrate_to(old, "0002")
    with old.begin() as connection:
        domain = "INSERT INTO domains VALUES ('d', 3, :a, '2026-01-02 03:04:05.000000', 0, 0)"
        connection.execute(text(domain), {"a": A})
        for digest in (A, B):
            row = {"digest": digest}
            connection.execute(text("INSERT INTO adapters VALUES ('d', :digest, '2026-01-02 03:04:05.000000')"), row)
    old.dispose()
    engine = open_database(url, tmp_path)
    with engine.begin() as connection:
        events = [(event.digest, event.event, event.by, event.details) for event in list_events(connection, "d")]
        assert sorted(events[:2]) == [(A, "registered", "unknown", {}), (B, "registered", "unknown", {})]
        assert events[2:] == [(A, "promoted", "unknown", {})]
        promote(connection, B)
        assert roll_back_adapter(connection, "d") == A
    migrate_to(engine, "0002")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT adapter FROM domains")).scalar() == A
    engine.dispose()


def spoil(name: str, value: float | None = None, rows: int | None = None) -> dict[str, np.ndarray]:
    tensors = make_tensors()
    key = f"base_model.model.{next(iter(MODULES))}.lora_{name}.weight"
    if value is not None:
        tensors[key][0, 0] = value
    if rows is not None:
        tensors[key] = tensors[key][:rows]
    return tensors


def zeros() -> dict[str, np.ndarray]:
    return {name: tensor * ("lora_A" in name) for name, tensor in make_tensors().items()}


def refuse(home: Path, model_dir: Path, digest: str, reason: str) -> None:
    with pytest.raises(Mismatch, match=reason):
        check_adapter_folder(adapters_dir(home) / digest, model_dir, hash_base(model_dir))


def test_an_adapter_that_fits_is_accepted(tmp_path: Path, model_dir: Path) -> None:
    folder = adapters_dir(tmp_path) / write_small_adapter(tmp_path, model_dir)
    check_adapter_folder(folder, model_dir, hash_base(model_dir))
    (folder / CARD_FILE).write_text("a sidecar is no part of the artefact")
    check_adapter_folder(folder, model_dir, hash_base(model_dir))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"base_sha256": "0" * 64}, "was trained on"),
        ({"tensors": spoil("B", rows=9)}, "the base weight is"),
        ({"tensors": spoil("A", float("nan"))}, "NaN or infinite"),
        ({"tensors": spoil("B", float("inf"))}, "NaN or infinite"),
        ({"tensors": zeros()}, "changes nothing"),
        ({"template": "{{ messages }}"}, "is not the chat template"),
        ({"config": {"modules_to_save": ["lm_head"]}}, "LoRA and DoRA only"),
        ({"config": {"peft_type": "IA3"}}, "LoRA and DoRA only"),
    ],
)
def test_an_adapter_that_must_not_serve_is_refused_with_its_reason(
    tmp_path: Path, model_dir: Path, changes: dict[str, object], reason: str
) -> None:
    refuse(tmp_path, model_dir, write_small_adapter(tmp_path, model_dir, **changes), reason)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("training_args.bin", b"\x80\x04.", "pickle files can run code"),
        ("checkpoint/rng_state.pth", b"\x80\x04.", "pickle files can run code"),
        ("adapter_config.json", b"{}", "adapter_config.json is missing or is not what the manifest says"),
        ("adapter_model.safetensors", b"", "adapter_model.safetensors is missing or is not what the manifest says"),
        ("manifest.json", b'{"format": 1, "kind": "run"}', "is a run"),
        ("manifest.json", b"{", "does not parse"),
    ],
)
def test_a_folder_that_was_touched_is_refused(
    tmp_path: Path, model_dir: Path, name: str, content: bytes, reason: str
) -> None:
    digest = write_small_adapter(tmp_path, model_dir)
    path = adapters_dir(tmp_path) / digest / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    refuse(tmp_path, model_dir, digest, reason)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"])
def test_a_folder_without_one_of_its_files_is_refused(tmp_path: Path, model_dir: Path, name: str) -> None:
    digest = write_small_adapter(tmp_path, model_dir)
    folder = adapters_dir(tmp_path) / digest
    (folder / name).unlink()
    refuse(tmp_path, model_dir, digest, f"{name} is missing")


def test_a_renamed_adapter_is_refused(tmp_path: Path, model_dir: Path) -> None:
    folder = adapters_dir(tmp_path) / write_small_adapter(tmp_path, model_dir)
    folder.rename(folder.with_name("0" * 16))
    refuse(tmp_path, model_dir, "0" * 16, "is not what its name says")
    with pytest.raises(NotFound):
        check_adapter_folder(folder, model_dir, hash_base(model_dir))


MANIFEST = {
    "domain": "d",
    "method": "sft",
    "base_model": "tiny",
    "base_sha256": "5" * 64,
    "recipe": {"learning_rate": 0.001, "lora_r": 16, "lora_targets": "all-linear", "quantisation": "none"},
    "engines": ["embedded", "vllm"],
    "lineage": {"documents": ["secret-1", "b"], "examples": ["1"], "groups": {"secret-1": ["hr"], "b": ["everyone"]}},
    "rows": {"closed-book": 1200, "with-passages": 80, "left_out_too_long": 2, "fill": 0.98},
    "curve": [[2, 2.0, 1.7], [4, 1.5, 1.625]],
    "tokens": 6014,
    "measures": {"before": {"accuracy": 0.5}, "after": {"accuracy": {"mean": 0.75, "low": 0.6, "high": 0.9}}},
    "seconds": 254.5,
    "leaks": [{"held_out_id": "t1", "train_id": "1"}, {"held_out_id": "t1", "train_id": "2"}],
    "gaps": [{"kind": "closed-book", "train_loss": 1.5, "validation_loss": 1.625, "num_validation": 40}],
    "report": "It ended well.",
    "forgetting": {"num_questions": 60, "accuracy_base": 0.5, "accuracy": 0.45, "lost": 0.02, "questions_sha256": "x"},
}


def test_the_card_says_what_made_it_and_what_was_found(connection: Connection, tmp_path: Path) -> None:
    failed = GateReport(A, None, (Check("parity", True, "equal"), Check("validation", False, "worse by 0.3 nats")))
    promote_adapter(connection, "d", A, failed, "the demo is today", by="ada")
    record_event(connection, "d", A, "audited", details={"membership": {"auc": 0.61}, "canaries": [1, 2]})
    promote(connection, B)
    events = tell_history(connection, A)
    (tmp_path / A).mkdir()
    write_card(tmp_path / A, MANIFEST, events, "Only some.")
    card = (tmp_path / A / CARD_FILE).read_text()
    assert card == describe_adapter(A, MANIFEST, events, "Only some.")
    for said in (
        f"# Adapter {A} of d",
        "learning_rate 0.001",
        "embedded, vllm",
        "1 examples and 2 documents",
        "1,200 closed-book",
        "1 of the documents were only for hr",
        "1 test questions, or paraphrases of them, were among",
        "| 4 | 1.500 | 1.625 |",
        "closed-book: +0.125 nats (40 rows)",
        "It ended well.",
        "after, accuracy: 0.75 (95% interval 0.6 to 0.9)",
        "share right, with the adapter: 0.45",
        "validation, **failed**: worse by 0.3 nats",
        "**Promoted all the same by ada: the demo is today**",
        "membership, auc: 0.61",
        "Only some.",
        "promoted in d by ada: the demo is today",
        "registered in other",
        f"replaced by {B} in d",
    ):
        assert said in card, said
    assert "secret-1" not in card, "a card names no document"


def test_the_card_of_an_adapter_that_says_little_is_written_all_the_same() -> None:
    card = describe_adapter(A, {"method": "imported", "lineage": {"documents": [], "examples": []}}, [])
    for said in ("made elsewhere", "never went through the gate", "was not measured", "Do not use it"):
        assert said in card, said
