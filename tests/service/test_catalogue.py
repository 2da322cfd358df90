"""Model states are kept while the database stands still, and read anew from the first request after a change."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hash_embedder import HashEmbedder, ignore
from scripted_service import DOMAIN
from sqlalchemy import Engine, event

from bakeoff.database import open_database
from bakeoff.domains import delete_domain
from bakeoff.errors import NotFound
from bakeoff.modes import parse_model_name
from bakeoff.records import Document
from bakeoff.settings import Settings
from retrieval.store import add_documents
from service.answer import EVERY_CALLER
from service.catalogue import Catalogue, ChangeCount

BASE = parse_model_name(f"{DOMAIN}/base")


@pytest.fixture
def database(home: Path) -> Iterator[Engine]:
    engine = open_database(Settings(home=home).url, home)
    yield engine
    engine.dispose()


@pytest.fixture
def statements(database: Engine) -> list[str]:
    """What is asked of the database."""
    seen: list[str] = []
    event.listen(database, "before_cursor_execute", lambda *facts: seen.append(facts[2]))
    return seen


def test_a_known_model_costs_no_query_until_something_changes(
    database: Engine, home: Path, statements: list[str]
) -> None:
    catalogue = Catalogue(database, home, HashEmbedder().name)
    assert catalogue.peek(BASE, EVERY_CALLER) is None
    first = catalogue.find(BASE, EVERY_CALLER)
    num_asked = len(statements)
    assert num_asked > 0
    assert catalogue.find(BASE, EVERY_CALLER) is first
    assert catalogue.peek(BASE, EVERY_CALLER) is first
    assert len(statements) == num_asked
    assert catalogue.peek(BASE, EVERY_CALLER | {"board"}) is None
    add_documents(database, DOMAIN, [Document("new", "New", "Something new.")], HashEmbedder(), ignore)
    assert catalogue.peek(BASE, EVERY_CALLER) is None
    assert catalogue.find(BASE, EVERY_CALLER).domain.epoch == first.domain.epoch + 1


def test_another_process_deleting_the_domain_counts_from_the_next_request(database: Engine, home: Path) -> None:
    catalogue = Catalogue(database, home, HashEmbedder().name)
    catalogue.find(BASE, EVERY_CALLER)
    other = open_database(Settings(home=home).url, home)
    with other.begin() as connection:
        delete_domain(connection, DOMAIN)
    other.dispose()
    with pytest.raises(NotFound, match=DOMAIN):
        catalogue.find(BASE, EVERY_CALLER)


def test_reading_the_change_count_is_not_a_change(database: Engine) -> None:
    changes = ChangeCount(database)
    assert changes.read() is not None
    assert len({changes.read() for _ in range(5)}) == 1
