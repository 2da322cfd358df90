"""`POST /v1/embeddings`: the vectors that the service itself searches by."""

import base64
from typing import Any, Literal

import anyio.to_thread
import numpy as np
from litestar import Request, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import JSONBody, SkipValidation
from litestar.status_codes import HTTP_200_OK
from msgspec import Struct

from bakeoff.errors import BadInput
from bakeoff.settings import Settings
from retrieval.embedder import Embedder
from service.openai.aliases import find_embedder_name
from service.openai.sampling import User
from service.openai.unsupported import is_lenient, refuse

MAX_INPUTS = 2048
TEXTS_AT_ONCE = 64
"""Texts of one call of the embedder: between two, another request has its turn."""


class EmbeddingRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /v1/embeddings`."""

    input: str | list[Any]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: User | None = None


class Embedding(Struct, frozen=True):
    """The vector of one text."""

    embedding: list[float] | str
    """Numbers, or as base64 the same as little-endian float32."""
    index: int
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(Struct, frozen=True):
    """Tokens of one request."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Struct, frozen=True):
    """Answer of `POST /v1/embeddings`."""

    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    object: Literal["list"] = "list"


@post("/v1/embeddings", status_code=HTTP_200_OK, operation_id="CreateEmbedding", tags=["embeddings"])
async def create_embedding(
    data: JSONBody[EmbeddingRequest],
    request: Request[Any, Any, State],
    embedder: NamedDependency[SkipValidation[Embedder]],
    settings: NamedDependency[Settings],
) -> EmbeddingList:
    """Turn texts into unit vectors."""
    name = find_embedder_name(data.model, settings)
    texts = _read_texts(data.input)
    lengths = await anyio.to_thread.run_sync(embedder.count_tokens, texts)
    longest = max(lengths)
    if longest > embedder.max_tokens:
        raise BadInput(
            f"input[{lengths.index(longest)}] has {longest} tokens, {name} reads up to {embedder.max_tokens}; "
            "split it into shorter texts",
            param="input",
        )
    parts = [
        await anyio.to_thread.run_sync(embedder.embed, texts[start : start + TEXTS_AT_ONCE])
        for start in range(0, len(texts), TEXTS_AT_ONCE)
    ]
    vectors = np.concatenate(parts)
    dim = vectors.shape[1]
    refuse(request, ["dimensions"] if data.dimensions not in (None, dim) else [], f"by {name} unless it is {dim}")
    encoding = data.encoding_format
    if encoding == "base64" and is_lenient(request):  # the package's strict parse, unlike its plain one, wants numbers
        refuse(request, ["encoding_format"])
        encoding = "float"
    return EmbeddingList(
        [Embedding(_encode(vector, encoding), index) for index, vector in enumerate(vectors)],
        name,
        EmbeddingUsage(sum(lengths), sum(lengths)),
    )


def _read_texts(given: str | list[Any]) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not all(isinstance(text, str) for text in texts):
        raise BadInput(
            "input of token ids is not read here; send text (LangChain does with check_embedding_ctx_length=False)",
            param="input",
        )
    if not texts or len(texts) > MAX_INPUTS:
        raise BadInput(f"input has {len(texts)} texts; send 1 to {MAX_INPUTS}", param="input")
    for position, text in enumerate(texts):
        if not text.strip():
            raise BadInput(f"input[{position}] is empty", param="input")
    return texts


def _encode(vector: Any, encoding_format: str) -> list[float] | str:
    if encoding_format == "float":
        return [float(number) for number in vector]
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
