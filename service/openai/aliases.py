"""Other names for models: a client with `gpt-4o-mini` written into it works as it is.

`BAKEOFF_MODEL_ALIASES=gpt-4o-mini=concierge/hybrid,text-embedding-3-small=all-minilm-l6-v2` names them. Answers name
the model that an alias stands for, as OpenAI's do.
"""

from functools import lru_cache

from bakeoff.errors import BadInput, NotFound
from bakeoff.modes import ModelName, parse_model_name
from bakeoff.settings import Settings


def find_model_name(text: str, settings: Settings) -> ModelName:
    """Return what a request's `model` stands for, an alias or not.

    Raises:
        NotFound: it is neither an alias nor a model's name.
    """
    return parse_model_name(read_aliases(settings).get(text, text))


def find_embedder_name(text: str, settings: Settings) -> str:
    """Return the name of the embedder, if this is its name or an alias of it.

    Raises:
        NotFound: it is not; names the embedder.
    """
    name = embedder_name(settings)
    if text != name and read_aliases(settings).get(text) != name:
        raise NotFound(f"model {text!r} makes no embeddings; the one that does is {name!r}", param="model")
    return name


def embedder_name(settings: Settings) -> str:
    """The embedder's name in the API: of a path or a Hugging Face id, the last part."""
    return settings.embedder.rstrip("/").rpartition("/")[2]


def read_aliases(settings: Settings) -> dict[str, str]:
    """Alias -> model or embedder.

    Raises:
        BadInput: an alias that cannot be read, or that stands for nothing.
    """
    return _parse(settings.model_aliases, embedder_name(settings))


@lru_cache(maxsize=8)
def _parse(text: str, embedder: str) -> dict[str, str]:
    aliases: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        alias, _, target = (part.strip() for part in entry.partition("="))
        if not alias or not target:
            raise BadInput(f"BAKEOFF_MODEL_ALIASES: {entry!r} is not ALIAS=MODEL")
        if alias in aliases:
            raise BadInput(f"BAKEOFF_MODEL_ALIASES names {alias!r} twice")
        if target != embedder:
            try:
                parse_model_name(target)
            except NotFound as error:
                raise BadInput(f"BAKEOFF_MODEL_ALIASES: {alias!r} stands for {target!r}, but {error}") from error
        aliases[alias] = target
    return aliases
