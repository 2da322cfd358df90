"""The models: modes, the embedder, aliases; and the deletion of a fine-tuned one."""

from pathlib import Path

import openai
import pytest
from openai import OpenAI
from scripted_service import DOMAIN
from small_adapters import write_small_adapter

from bakeoff.adapters import register_adapter
from bakeoff.artefacts import adapters_dir
from bakeoff.database import open_database
from bakeoff.errors import BadInput
from bakeoff.promotions import promote_adapter
from bakeoff.settings import Settings
from service.openai.aliases import read_aliases


def test_aliases_and_the_embedder_are_listed_and_retrieved(able_client: OpenAI) -> None:
    models = {model.id: model for model in able_client.models.list()}
    assert list(models)[-3:] == ["all-minilm-l6-v2", "gpt-4o-mini", "ada"]
    assert {model.owned_by for model in models.values()} == {"bakeoff"}
    alias = able_client.models.retrieve("gpt-4o-mini")
    assert alias == models["gpt-4o-mini"]
    assert (alias.model_extra or {})["bakeoff"]["mode"] == "rag"
    assert able_client.models.retrieve("ada").id == "ada"
    assert able_client.models.retrieve("all-minilm-l6-v2") == models["all-minilm-l6-v2"]
    with pytest.raises(openai.NotFoundError):
        able_client.models.retrieve("gpt-4")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpt-4", "not ALIAS=MODEL"),
        ("=hotel/rag", "not ALIAS=MODEL"),
        ("a=hotel/rag,a=hotel/base", "twice"),
        ("a=hotel", "'a' stands for 'hotel'"),
        ("a=hotel/poetry", "mode 'poetry' does not exist"),
        ("a=other-embedder", "does not exist"),
    ],
)
def test_an_alias_that_stands_for_nothing_is_named_at_the_start(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_aliases(Settings(model_aliases=text))


def test_a_fine_tuned_model_that_does_not_serve_can_be_deleted(url: str, home: Path, model_dir: Path) -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, _strict_response_validation=True)
    serving, other = write_small_adapter(home, model_dir, DOMAIN), write_small_adapter(home, model_dir, DOMAIN, seed=1)
    engine = open_database(Settings(home=home).url, home)
    with engine.begin() as connection:
        register_adapter(connection, DOMAIN, serving)
        register_adapter(connection, DOMAIN, other)
        promote_adapter(connection, DOMAIN, serving, None, "no gate here")
    engine.dispose()
    deleted = client.models.delete(f"{DOMAIN}/hybrid@{other[:12]}")
    assert (deleted.deleted, deleted.object) == (True, "model")
    assert not (adapters_dir(home) / other).exists()
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(f"{DOMAIN}/hybrid@{other}")
    with pytest.raises(openai.BadRequestError, match="serves hotel and cannot be removed"):
        client.models.delete(f"{DOMAIN}/hybrid@{serving}")
    with pytest.raises(openai.BadRequestError, match="name the adapter"):
        client.models.delete(f"{DOMAIN}/hybrid")
    assert (adapters_dir(home) / serving).exists()
