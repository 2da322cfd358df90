"""`bakeoff adapters` on a home of its own, with real folders. Where its decision is tested, the gate is given."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hash_embedder import write_texts
from small_adapters import make_tensors, write_peft_folder, write_small_adapter
from sqlalchemy import Engine

import bakeoff.cli.gating
from bakeoff.adapters import AdapterEvent, Check, GateReport, list_events, register_adapter
from bakeoff.artefacts import adapters_dir
from bakeoff.card import CARD_FILE
from bakeoff.cli.adapters import adapters_command
from bakeoff.cli.promotion import promote_through_gate
from bakeoff.cli.workspace import Workspace
from bakeoff.database import open_database
from bakeoff.domains import ensure_domain, find_domain
from bakeoff.errors import BadInput, BakeoffError, Mismatch, NotFound
from bakeoff.settings import Settings
from retrieval.permissions import change_grants

Gate = Callable[[Any, str, str], GateReport]


class Home:
    """A home with adapters."""

    def __init__(self, path: Path, base_dir: Path) -> None:
        self.path = path
        self.base_dir = base_dir
        self.engine: Engine = open_database(Settings(home=path).url, path)
        with self.engine.begin() as connection:
            ensure_domain(connection, "d")

    def adapter(self, seed: int = 0, **facts: Any) -> str:
        """Write and register one."""
        digest = write_small_adapter(self.path, self.base_dir, seed=seed, **facts)
        with self.engine.begin() as connection:
            register_adapter(connection, "d", digest)
        return digest

    def folder(self, digest: str) -> Path:
        return adapters_dir(self.path) / digest

    @property
    def serving(self) -> str | None:
        with self.engine.connect() as connection:
            return find_domain(connection, "d").adapter

    def events(self, digest: str) -> list[AdapterEvent]:
        with self.engine.connect() as connection:
            return list_events(connection, "d", digest)

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(adapters_command, [*words, "--domain", "d"])

    def say(self, *words: str) -> str:
        """What the command prints when it does what it was asked."""
        result = self.run(*words)
        assert result.exception is None, result.exception
        return result.stdout

    def read(self, *words: str) -> Any:
        return json.loads(self.say(*words, "--json"))

    def fail(self, kind: type[BakeoffError], *words: str) -> str:
        result = self.run(*words)
        assert isinstance(result.exception, kind), result.exception
        return str(result.exception)


@pytest.fixture
def home(tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("BAKEOFF_HOME", str(tmp_path))
    home = Home(tmp_path, model_dir)
    yield home
    home.engine.dispose()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Sets what the gate finds; returns the digests it was asked about."""

    def decide(*checks: Check) -> list[str]:
        asked: list[str] = []

        def gate_adapter(workspace: Workspace, domain: str, digest: str) -> GateReport:
            asked.append(digest)
            with workspace.engine.connect() as connection:
                return GateReport(digest, find_domain(connection, domain).adapter, checks)

        monkeypatch.setattr(bakeoff.cli.gating, "gate_adapter", gate_adapter)
        return asked

    return decide


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


GOOD = Check("validation", True, "better than the base model by 0.2 nats", {"difference": -0.2})
BAD = Check("forgetting", False, "it unlearned 0.9 nats of general questions; lower learning_rate")


def test_an_adapter_that_passes_serves_and_its_card_says_so(home: Home, gate: Any) -> None:
    asked = gate(GOOD)
    digest = home.adapter()
    assert "serves from the next request on" in home.say("promote", digest[:8])
    assert (home.serving, asked) == (digest, [digest])
    card = (home.folder(digest) / CARD_FILE).read_text()
    assert GOOD.sentence in card
    assert "promoted in d by" in card
    assert home.say("show", digest[:8]).rstrip("\n") == card.rstrip("\n")
    shown = home.read("show", digest)
    assert shown["adapter"]["promoted"] is True
    assert shown["manifest"]["method"] == "sft"
    assert [event["event"] for event in shown["events"]] == ["registered", "promoted"]
    assert home.say("list").startswith(f"* {digest}")


def test_a_serving_adapter_is_not_gated_again(home: Home, gate: Any) -> None:
    asked = gate(GOOD)
    digest = home.adapter()
    first = promote_through_gate(Workspace(), "d", digest)
    assert promote_through_gate(Workspace(), "d", digest) == first
    assert asked == [digest]
    assert [event.event for event in home.events(digest)] == ["registered", "promoted"]


def test_a_refusal_says_why_is_recorded_and_changes_nothing(home: Home, gate: Any) -> None:
    gate(GOOD, BAD)
    digest = home.adapter()
    said = home.fail(BakeoffError, "promote", digest)
    assert BAD.sentence in said
    assert GOOD.sentence not in said
    assert "--anyway" in said
    assert home.serving is None
    event = home.events(digest)[-1]
    assert (event.event, event.reason) == ("refused", "gate: forgetting")
    assert event.details["gate"]["checks"][1]["passed"] is False
    assert "**failed**" in (home.folder(digest) / CARD_FILE).read_text()
    result = home.run("promote", digest, "--json")
    assert json.loads(result.stdout)["serves"] is False


def test_promoting_anyway_keeps_the_reason_for_ever(home: Home, gate: Any) -> None:
    gate(BAD)
    digest, other = home.adapter(), home.adapter(1)
    assert "reason" in home.fail(BadInput, "promote", digest, "--anyway", " ")
    report = home.read("promote", digest, "--anyway", "the demo is today")
    assert (report["passed"], report["serves"], home.serving) == (False, True, digest)
    assert "Promoted all the same" in (home.folder(digest) / CARD_FILE).read_text()
    gate(GOOD)
    home.say("promote", other)
    home.say("remove", digest, "--yes", "--reason", "no longer")
    told = home.say("show", digest)
    assert "the demo is today" in told
    assert "removed by" in told
    assert [event["event"] for event in home.read("show", digest)["events"]] == ["registered", "promoted", "removed"]


def test_no_reason_promotes_a_folder_that_must_not_serve(home: Home, gate: Any) -> None:
    asked = gate(GOOD)
    digest = home.adapter(tensors={name: tensor * 0 for name, tensor in make_tensors().items()})
    for words in (["promote", digest], ["promote", digest, "--anyway", "I insist"], ["check", digest, "--files"]):
        assert "changes nothing" in home.fail(Mismatch, *words)
    assert (home.serving, asked) == (None, [])
    assert [event.event for event in home.events(digest)] == ["registered", "refused", "refused"]


def test_checking_promotes_nothing_and_leaves_no_trace(home: Home, gate: Any) -> None:
    digest = home.adapter()
    assert "whole" in home.say("check", digest, "--files")
    gate(GOOD)
    assert "passed  validation" in home.say("check", digest)
    gate(BAD)
    assert "would not be promoted" in home.fail(BakeoffError, "check", digest)
    assert home.serving is None
    assert [event.event for event in home.events(digest)] == ["registered"]


def test_rolling_back_serves_the_one_before_unless_it_must_not_serve(home: Home, gate: Any) -> None:
    gate(GOOD)
    first, second, third = (home.adapter(seed) for seed in range(3))
    assert "no adapter served d before" in home.fail(NotFound, "rollback")
    for digest in (first, second, third):
        home.say("promote", digest)
    assert home.read("rollback", "--reason", "complaints") == {"adapter": second, "before": third}
    assert home.serving == second
    assert "rolled back in d by" in (home.folder(second) / CARD_FILE).read_text()
    left = (home.folder(third) / CARD_FILE).read_text()
    assert f"rolled back to {second} in d by" in left
    assert left.endswith(": complaints\n")
    assert f"replaced by {second} in d by" in (home.folder(first) / CARD_FILE).read_text()
    (home.folder(first) / "evil.pkl").write_bytes(b"\x80\x04.")
    assert "pickle" in home.fail(Mismatch, "rollback")
    assert home.serving == second
    assert home.read("rollback", "--to", third[:8])["adapter"] == third
    assert home.serving == third


def test_removing_deletes_weights_and_asks_first(home: Home, gate: Any) -> None:
    gate(GOOD)
    served, gone, kept = (home.adapter(seed) for seed in range(3))
    home.say("promote", served)
    for digest in (gone, kept):
        (home.path / "engines" / f"{digest}-float32").mkdir(parents=True)
    assert "say --yes" in home.fail(BadInput, "remove", gone)
    assert "nothing was removed" in home.fail(BadInput, "remove", gone, served, "--yes")
    assert "eight" in home.fail(BadInput, "remove", gone[:7], "--yes")
    assert home.folder(gone).is_dir()
    assert home.read("remove", gone, "--yes") == {"removed": [gone]}
    assert not home.folder(gone).exists()
    assert names(home.path / "engines") == [f"{kept}-float32"]
    assert names(home.path / "adapters") == sorted([served, kept])
    with home.engine.begin() as connection:
        ensure_domain(connection, "other")
        register_adapter(connection, "other", kept)
    home.say("remove", kept, "--yes")
    assert home.folder(kept).is_dir(), "the other domain has it too"
    assert "0 adapters" in home.fail(NotFound, "remove", gone, "--yes")


def test_the_card_says_who_may_be_served(home: Home) -> None:
    write_texts(home.engine, "d", {"a": "zebra", "b": "lion"})
    digest = home.adapter(documents=["a", "b"])
    assert "It may answer everyone" in home.say("show", digest)
    change_grants(home.engine, "d", ["a"], grant=["hr"], revoke=["everyone"])
    said = home.say("show", digest)
    assert "learned from 1 document that only group hr may see" in said
    assert f"bakeoff adapters open {digest} --domain d" in said
    assert "empty" in home.fail(BadInput, "open", digest, "--reason", " ")
    assert home.read("open", digest, "--reason", "it says nothing secret") == {"adapter": digest, "open": True}
    card = (home.folder(digest) / CARD_FILE).read_text()
    assert "opened it to everyone all the same" in card
    assert "opened in d by" in card
    assert home.read("show", digest)["open"] is True
    assert home.read("close", digest) == {"adapter": digest, "open": False}
    assert "answers no caller" in (home.folder(digest) / CARD_FILE).read_text()


def test_a_folder_of_peft_is_taken_over_only_if_it_fits(home: Home, tmp_path: Path, gate: Any) -> None:
    gate(GOOD)
    source = tmp_path / "elsewhere"
    write_peft_folder(source, make_tensors(5), base_model_name_or_path="/home/ada/models/smollm2")
    taken = home.read("import", str(source))
    digest = taken["digest"]
    assert home.serving is None
    assert [event.event for event in home.events(digest)] == ["imported"]
    assert "/home/ada" not in (home.folder(digest) / "adapter_config.json").read_text()
    assert "it was made elsewhere" in (home.folder(digest) / CARD_FILE).read_text()
    home.say("promote", digest)
    assert home.serving == digest
    spoilt = make_tensors(5)
    spoilt["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"][0, 0] = float("nan")
    write_peft_folder(source, spoilt)
    assert "NaN" in home.fail(Mismatch, "import", str(source))
    write_peft_folder(source, make_tensors(5))
    (source / "chat_template.jinja").write_text("{{ messages }}")
    assert "chat template" in home.fail(Mismatch, "import", str(source))
    (source / "chat_template.jinja").unlink()
    (source / "optimizer.pt").write_bytes(b"\x80\x04.")
    assert "pickle" in home.fail(Mismatch, "import", str(source))
    assert "no folder" in home.fail(NotFound, "import", str(source / "nowhere"))
    assert names(home.path / "adapters") == [digest]


def test_an_adapter_of_another_domain_is_not_found(home: Home) -> None:
    digest = home.adapter()
    result = CliRunner().invoke(adapters_command, ["promote", digest, "--domain", "nowhere"])
    assert isinstance(result.exception, NotFound)
    assert "0 adapters" in home.fail(NotFound, "promote", "0" * 16)
