"""A request of the Responses API -> what is asked of the model: the conversation it goes on from, tools, sampling."""

from typing import Any

import anyio.to_thread
from litestar import Request
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from bakeoff.errors import BadInput
from bakeoff.modes import ModelName
from bakeoff.records import Message
from bakeoff.settings import Settings
from bakeoff.tasks import ANSWER, find_task
from service.answer import EVERYTHING, Answerer
from service.callers import Caller
from service.exchange import Asked
from service.generator import Generator
from service.openai.aliases import find_model_name
from service.openai.responses.answering import Question
from service.openai.responses.items import Item, to_messages
from service.openai.responses.reading import read_input
from service.openai.responses.schemas import CompactRequest, ResponseRequest, TokenCountRequest
from service.openai.responses.sources import narrow
from service.openai.responses.store import ResponseStore
from service.openai.responses.support import check_supported, to_sampling
from service.openai.responses.tools import read_tools
from service.openai.unsupported import is_lenient, refuse


class Reader:
    """Reads requests; holds what that takes."""

    def __init__(
        self, store: ResponseStore, answerer: Answerer, generator: Generator, settings: Settings, caller: Caller
    ) -> None:
        """Read for this caller."""
        self._store = store
        self._answerer = answerer
        self._generator = generator
        self._settings = settings
        self._caller = caller

    async def read(self, request: Request[Any, Any, Any], data: ResponseRequest) -> Question:
        """Read a request.

        Raises:
            BadInput: a part of it that cannot be heeded or read; names it.
            NotFound: no such model or vector store.
        """
        toolbox = read_tools(data.tools, data.tool_choice)
        check_supported(request, data, toolbox)
        model = await self.find_model(request, data.model)
        sampling = to_sampling(request, data, toolbox, self._generator, self._settings.max_tokens)
        task = find_task((data.metadata or {}).get("task", ANSWER.name))
        items, conversation, previous = await self.read_conversation(request, data)
        narrowing = EVERYTHING
        if toolbox.search is not None and toolbox.choice != "none":
            narrowing = await anyio.to_thread.run_sync(narrow, self._store.engine, toolbox.search, model, self._caller)
        asked = Asked(
            route="responses",
            prefix="resp_",
            model=model,
            conversation=conversation,
            sampling=sampling,
            task=task,
            narrowing=narrowing,
            is_streamed=bool(data.stream),
            caller=self._caller,
            user=data.user or data.safety_identifier or "",
            metadata=data.metadata or {},
        )
        return Question(data, asked, toolbox, items, previous)

    async def find_model(self, request: Request[Any, Any, Any], name: str | None) -> ModelName:
        """The model that a request names; a lenient service takes the first that is ready where it names none.

        Raises:
            BadInput: it names none.
            NotFound: there is none of this name.
        """
        if name is not None:
            return find_model_name(name, self._settings)
        if not is_lenient(request):
            raise BadInput("model is missing: name one of GET /v1/models", param="model")
        states = await anyio.to_thread.run_sync(self._answerer.list_models, self._caller.groups)
        return next(ModelName(state.domain.name, state.mode) for state in states if state.lack is None)

    async def read_conversation(
        self, request: Request[Any, Any, Any], data: ResponseRequest | TokenCountRequest | CompactRequest
    ) -> tuple[list[Item], tuple[Message, ...], str | None]:
        """The items of the request itself, all that the model is told, and the response that it goes on from.

        Raises:
            BadInput: an item that cannot be read, or a response that is not there.
        """
        given = data.input
        if is_lenient(request) and not given:
            given = "Hello"
        own = await anyio.to_thread.run_sync(self._store.resolve, read_input(given), self._caller)
        previous = data.previous_response_id
        history: list[Item] = []
        if previous is not None:
            try:
                history = await anyio.to_thread.run_sync(self._store.gather, previous, self._caller)
            except BadInput as error:
                if not is_lenient(request):
                    raise
                refuse(request, [error.param or "previous_response_id"])
                previous = None
        instructions = [Message("system", data.instructions)] if data.instructions else []
        conversation = (*instructions, *to_messages([*history, *own]))
        uses_tools = any(message.role == "tool" or message.tool_calls for message in conversation)
        if uses_tools and "tools" not in self._generator.supports:
            refuse(request, ["input"], "with function calls by this engine")
        return own, conversation, previous


async def provide_reader(
    responses: NamedDependency[ResponseStore],
    answerer: NamedDependency[Answerer],
    generator: NamedDependency[SkipValidation[Generator]],
    settings: NamedDependency[Settings],
    caller: NamedDependency[Caller],
) -> Reader:
    """The dependency `reader`."""
    return Reader(responses, answerer, generator, settings, caller)
