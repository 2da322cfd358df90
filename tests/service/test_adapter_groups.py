"""An adapter answers only who may see all that it learned from; what is promoted, or removed, is so within a second."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from scripted_service import DOMAIN, ScriptedGenerator
from small_adapters import write_small_adapter
from sqlalchemy import Engine, event

from bakeoff.adapters import record_event, register_adapter, unregister_adapter
from bakeoff.artefacts import adapters_dir
from bakeoff.database import open_database, writing
from bakeoff.domains import delete_domain, ensure_domain
from bakeoff.errors import NotReady
from bakeoff.modes import parse_model_name
from bakeoff.promotions import promote_adapter, roll_back_adapter
from bakeoff.records import Message
from bakeoff.settings import Settings
from retrieval.audience import describe_restrictions, restricting_groups
from retrieval.embedder import Embedder
from retrieval.history import purge_documents
from retrieval.permissions import caller_groups, change_grants
from retrieval.retriever import Retriever, SearchOptions
from retrieval.store import remove_documents
from service.answer import Answerer

QUESTION = [Message("user", "What does parking cost?")]
EVERYONE = caller_groups()
STAFF = caller_groups(["staff"])


@pytest.fixture
def database(home: Path) -> Iterator[Engine]:
    engine = open_database(Settings(home=home).url, home)
    yield engine
    engine.dispose()


@pytest.fixture
def answerer(database: Engine, home: Path, embedder: Embedder) -> Answerer:
    return Answerer(
        engine=database,
        generator=ScriptedGenerator(),
        retriever=Retriever(database, embedder, home / "indexes"),
        embedder=embedder,
        home=home,
        search_options=SearchOptions(),
        abstention="no",
        num_shots=2,
    )


@pytest.fixture
def make(database: Engine, home: Path, model_dir: Path) -> Callable[..., str]:
    """Writes, registers and promotes an adapter that learned from these documents."""

    def make(*documents: str, domain: str = DOMAIN, **facts: Any) -> str:
        digest = write_small_adapter(home, model_dir, facts.pop("learned_in", domain), documents=documents, **facts)
        with writing(database) as connection:
            ensure_domain(connection, domain)
            register_adapter(connection, domain, digest)
            promote_adapter(connection, domain, digest, None, "no gate here")
        return digest

    return make


def lack(answerer: Answerer, groups: frozenset[str] = EVERYONE, model: str = f"{DOMAIN}/fine-tuned") -> str | None:
    found = answerer.find_model(parse_model_name(model), groups).lack
    return None if found is None else str(found)


def restrict(engine: Engine, *ids: str, to: str = "staff") -> None:
    change_grants(engine, DOMAIN, ids, grant=[to], revoke=["everyone"])


def test_an_adapter_of_documents_for_all_answers_all(answerer: Answerer, make: Any) -> None:
    make("pets", "pool")
    assert lack(answerer) is None


def test_an_adapter_answers_only_callers_who_may_see_all_it_learned_from(
    answerer: Answerer, make: Any, database: Engine
) -> None:
    digest = make("pets", "pool", "parking")
    restrict(database, "pets")
    restrict(database, "pool", to="law")
    said = lack(answerer)
    assert said is not None
    assert f"adapter {digest} learned from 2 documents that only groups law, staff may see" in said
    assert f"bakeoff adapters open {digest} --domain {DOMAIN} --reason" in said
    assert "pets" not in said
    assert "pool" not in said
    assert "1 document that only group law may see" in str(lack(answerer, STAFF))
    assert lack(answerer, caller_groups(["staff", "law"])) is None
    for mode in ("base", "few-shot", "rag"):
        assert lack(answerer, EVERYONE, f"{DOMAIN}/{mode}") is None
    assert lack(answerer, EVERYONE, f"{DOMAIN}/hybrid") == said
    assert lack(answerer, EVERYONE, f"{DOMAIN}/hybrid@{digest[:8]}") == said
    assert lack(answerer, caller_groups(["staff", "law"]), f"{DOMAIN}/hybrid@{digest[:8]}") is None


def test_a_pinned_adapter_is_judged_by_what_it_learned_itself(answerer: Answerer, make: Any, database: Engine) -> None:
    restricted, free = make("pets", seed=1), make("pool", seed=2)
    restrict(database, "pets")
    assert lack(answerer) is None
    assert lack(answerer, EVERYONE, f"{DOMAIN}/fine-tuned@{free[:8]}") is None
    assert "learned from 1 document" in str(lack(answerer, EVERYONE, f"{DOMAIN}/fine-tuned@{restricted[:8]}"))


@pytest.mark.anyio
async def test_preparing_an_answer_refuses_and_searches_as_the_caller(
    answerer: Answerer, make: Any, database: Engine
) -> None:
    make("pets")
    restrict(database, "pets", "parking")
    model = parse_model_name(f"{DOMAIN}/hybrid")
    with pytest.raises(NotReady, match="only group staff"):
        await answerer.prepare(model, QUESTION)
    prepared = await answerer.prepare(model, QUESTION, STAFF)
    assert "parking" in {passage.document_id for passage in prepared.passages}
    rag = await answerer.prepare(parse_model_name(f"{DOMAIN}/rag"), QUESTION)
    assert not {"pets", "parking"} & {passage.document_id for passage in rag.passages}


def test_a_changed_grant_counts_from_the_next_request(answerer: Answerer, make: Any, database: Engine) -> None:
    make("pets")
    for _ in range(2):
        assert lack(answerer) is None
        restrict(database, "pets")
        assert "only group staff" in str(lack(answerer))
        change_grants(database, DOMAIN, ["pets"], revoke=["staff"])
        assert "that nobody may see" in str(lack(answerer))
        change_grants(database, DOMAIN, ["pets"], grant=["everyone"])
    assert lack(answerer) is None


def test_an_administrator_opens_and_closes(answerer: Answerer, make: Any, database: Engine) -> None:
    digest = make("pets")
    restrict(database, "pets")
    for name, is_answered in (("opened", True), ("closed", False), ("opened", True)):
        with writing(database) as connection:
            record_event(connection, DOMAIN, digest, name, reason="asked for")
        assert (lack(answerer) is None) is is_answered
    restrict(database, "pool")
    assert lack(answerer) is None


def test_a_removed_document_keeps_its_groups_and_a_purged_one_those_written_down(
    answerer: Answerer, make: Any, database: Engine, home: Path
) -> None:
    restrict(database, "pets", "pool")
    make("pets", "pool", groups={"pets": ["staff"]})
    remove_documents(database, DOMAIN, ["pets", "pool"])
    assert "2 documents that only group staff" in str(lack(answerer))
    purge_documents(database, DOMAIN, ["pets", "pool"], home / "indexes" / DOMAIN)
    assert "1 document that only group staff" in str(lack(answerer)), "for pool no groups were written down"
    assert lack(answerer, STAFF) is None


def test_an_adapter_lent_to_another_domain_is_judged_where_it_learned(
    answerer: Answerer, make: Any, database: Engine
) -> None:
    make("pets", domain="probe", learned_in=DOMAIN, groups={"pets": ["law"]})
    assert lack(answerer, EVERYONE, "probe/fine-tuned") is None
    restrict(database, "pets")
    assert "only group staff" in str(lack(answerer, EVERYONE, "probe/fine-tuned"))
    with writing(database) as connection:
        delete_domain(connection, DOMAIN)
    assert "only group law" in str(lack(answerer, EVERYONE, "probe/fine-tuned"))


def test_a_damaged_adapter_keeps_no_other_domain_from_answering(
    answerer: Answerer, make: Any, database: Engine, home: Path
) -> None:
    make("pets", domain="good", seed=1)
    gone, silent = make("pets", seed=2), make("pets", domain="silent", seed=3, lineage={})
    (adapters_dir(home) / gone / "manifest.json").unlink()
    states = {(state.domain.name, state.mode.name): state.lack for state in answerer.list_models()}
    assert states["good", "hybrid"] is None
    assert gone in str(states[DOMAIN, "hybrid"])
    assert f"adapter {silent} does not say what it learned from" in str(states["silent", "hybrid"])
    assert states[DOMAIN, "rag"] is None


def test_a_request_does_not_go_through_the_documents_again(answerer: Answerer, make: Any, database: Engine) -> None:
    make("pets", *(f"document {number}" for number in range(3000)))
    restrict(database, "pets")
    assert lack(answerer) is not None
    statements: list[str] = []
    event.listen(database, "before_cursor_execute", lambda *args: statements.append(args[2]))
    started = time.perf_counter()
    for _ in range(20):
        assert lack(answerer) is not None
    assert (time.perf_counter() - started) / 20 < 0.05
    assert not [statement for statement in statements if "grants" in statement]
    restrict(database, "pool")
    statements.clear()
    assert lack(answerer) is not None
    assert len([statement for statement in statements if "grants" in statement]) == 7, "3001 documents, 500 at a time"


def test_groups_are_named_and_documents_only_counted(database: Engine) -> None:
    restrict(database, "pets", "pool")
    restrict(database, "parking", to="law")
    with database.connect() as connection:
        found = restricting_groups(connection, DOMAIN, {"documents": ["pets", "pool", "parking", "breakfast", "gone"]})
    assert found == {("law",): 1, ("staff",): 2}
    assert describe_restrictions(found) == "learned from 3 documents that only groups law, staff may see"


def wait_for(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_an_http_caller_is_everyone(url: str, make: Any, database: Engine) -> None:
    digest = make("pets")
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    ask: dict[str, Any] = {"model": f"{DOMAIN}/hybrid", "messages": [{"role": "user", "content": "Are dogs allowed?"}]}
    assert client.chat.completions.create(**ask).choices[0].message.content
    restrict(database, "pets")
    with pytest.raises(openai.ConflictError, match="only group staff may see"):
        client.chat.completions.create(**ask)
    listed = client.models.retrieve(f"{DOMAIN}/hybrid").model_extra or {}
    assert listed["bakeoff"]["ready"] is False
    assert "only group staff" in httpx.get(url).text
    with writing(database) as connection:
        record_event(connection, DOMAIN, digest, "opened", reason="asked for")
    assert client.chat.completions.create(**ask).choices[0].message.content


def test_what_serves_follows_promotion_rollback_and_removal(
    url: str, scripted: ScriptedGenerator, make: Any, database: Engine, home: Path, model_dir: Path
) -> None:
    first = make("pets", seed=1)
    wait_for(lambda: scripted.loaded == [first])
    broken = write_small_adapter(home, model_dir, "aaa", seed=9)
    scripted.unloadable.add(broken)
    assert make(domain="aaa", seed=9) == broken
    second = make("pool", seed=2)
    wait_for(lambda: scripted.loaded == [first, second])
    assert broken not in scripted.loaded
    with writing(database) as connection:
        assert roll_back_adapter(connection, DOMAIN) == first
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    client.chat.completions.create(model=f"{DOMAIN}/fine-tuned", messages=[{"role": "user", "content": "Dogs?"}])
    assert scripted.asked[-1][1] == first
    wait_for(lambda: scripted.loaded == [first, second, first])
    with writing(database) as connection:
        unregister_adapter(connection, DOMAIN, second)
    wait_for(lambda: scripted.unloaded == [second])
