"""What a LangChain user writes, run in LangChain's own environment; what came of it goes to stdout as JSON.

Arguments: the name of one function below, the base URL of the API, the domain, the embedding model, two questions.
"""

import asyncio
import json
import sys
from functools import reduce
from operator import add
from typing import Any

import openai
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

FEATURE, BASE_URL, DOMAIN, EMBEDDING_MODEL, FIRST, SECOND = sys.argv[1:]


class Parking(BaseModel):
    """Whether there is parking, and whether it is free."""

    available: bool
    free: bool


def chat(mode: str, **options: Any) -> ChatOpenAI:
    """The chat model in one of our modes."""
    return ChatOpenAI(
        base_url=BASE_URL, api_key="none", model=f"{DOMAIN}/{mode}", temperature=0, max_tokens=48, **options
    )


def invoke() -> dict[str, Any]:
    """One question, whole and as a stream whose chunks LangChain adds up, with usage and finish reason."""
    answer = chat("rag").invoke(FIRST)
    chunks = list(chat("rag", stream_usage=True).stream(FIRST))
    added = reduce(add, chunks)
    return {
        "whole": {"text": answer.content, "usage": answer.usage_metadata, "metadata": answer.response_metadata},
        "streamed": {"text": added.content, "usage": added.usage_metadata, "chunks": len(chunks)},
    }


def batch() -> list[Any]:
    """Two questions at once."""
    return [answer.content for answer in chat("hybrid").batch([FIRST, SECOND])]


def chain() -> dict[str, Any]:
    """Prompt, model and parser, whole, streamed, and asynchronously."""
    prompt = ChatPromptTemplate.from_messages([("system", "Answer in one sentence."), ("human", "{question}")])
    chained = prompt | chat("hybrid") | StrOutputParser()
    return {
        "text": chained.invoke({"question": FIRST}),
        "streamed": "".join(chained.stream({"question": FIRST})),
        "async": asyncio.run(chained.ainvoke({"question": FIRST})),
    }


def conversation() -> str:
    """A follow-up question after an answer of the model itself."""
    first = chat("hybrid").invoke([HumanMessage(FIRST)])
    assert isinstance(first, AIMessage)
    return str(chat("hybrid").invoke([HumanMessage(FIRST), first, HumanMessage("And breakfast?")]).content)


def structured() -> dict[str, Any]:
    """An object of a class, by LangChain's default way."""
    found = chat("rag").with_structured_output(Parking).invoke(FIRST)
    assert isinstance(found, Parking)
    return found.model_dump()


def logprobs() -> list[float]:
    """The log-probability of each token."""
    answer = chat("rag").bind(logprobs=True).invoke(FIRST)
    return [token["logprob"] for token in answer.response_metadata["logprobs"]["content"]]


def responses() -> dict[str, Any]:
    """LangChain over the Responses API, whole with its citations, and streamed."""
    model = chat("hybrid", use_responses_api=True)
    answer = model.invoke(FIRST)
    cited = [item for block in answer.content_blocks for item in block.get("annotations", [])]
    return {"text": answer.text, "cited": cited, "streamed": "".join(chunk.text for chunk in model.stream(FIRST))}


def embeddings() -> dict[str, Any]:
    """Texts put into a vector store and found by their meaning."""
    embedder = OpenAIEmbeddings(
        base_url=BASE_URL, api_key="none", model=EMBEDDING_MODEL, check_embedding_ctx_length=False
    )
    store = InMemoryVectorStore.from_texts(
        ["Dogs may sleep in the garden rooms.", "The pool opens in May.", "Parking costs 10 pounds a night."], embedder
    )
    return {
        "nearest": [found.page_content for found in store.similarity_search("Where do I leave my car?", k=1)],
        "dimensions": len(embedder.embed_query("car")),
    }


def wrong_model() -> dict[str, Any]:
    """The error of a model that is not there."""
    try:
        ChatOpenAI(base_url=BASE_URL, api_key="none", model="nowhere/rag").invoke(FIRST)
    except openai.NotFoundError as error:
        return {"code": error.code, "message": str(error)}
    return {}


def tools() -> dict[str, Any]:
    """The error of a tool that the engine cannot call."""
    try:
        return {"answer": str(chat("rag").bind_tools([Parking]).invoke(FIRST).content)}
    except openai.BadRequestError as error:
        return {"param": error.param, "message": str(error)}


FEATURES = (invoke, batch, chain, conversation, structured, logprobs, responses, embeddings, wrong_model, tools)
json.dump({feature.__name__: feature for feature in FEATURES}[FEATURE](), sys.stdout)
