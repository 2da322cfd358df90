"""The seam between the service and whatever runs the model: messages in, deltas out."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from bakeoff.records import Delta, Message, Sampling


class Generator(Protocol):
    """Turns messages into a completion. Implementations: `service.embedded` (this machine's CPU), `service.vllm`."""

    @property
    def name(self) -> str:
        """Engine and base model in one word, recorded with every run: `openvino/int8:SmolLM2-135M-Instruct`."""
        ...

    @property
    def supports(self) -> frozenset[str]:
        """OpenAI's names of the parameters, beyond the plain ones, that it heeds; the service refuses the others.

        Of `logprobs`, `top_logprobs`, `frequency_penalty`, `presence_penalty`, `logit_bias`, `response_format` and
        `tools`; and the names of its own sampling extras (`top_k`, `min_p`, ...), which come in `Sampling.extras`.
        """
        ...

    async def start(self) -> None:
        """Load the base model. Returns when it can answer.

        Raises:
            NotReady: the base model has not been prepared; names the command.
        """
        ...

    async def load(self, adapter: str) -> None:
        """Make an adapter answer at once, without touching requests in flight. Loading it again does nothing.

        Raises:
            NotFound: no artefact of this digest.
            Mismatch: it is damaged, or was trained on another base model.
        """
        ...

    async def unload(self, adapter: str) -> None:
        """Let go of an adapter that was removed, once its requests in flight are answered."""
        ...

    def stream(
        self,
        messages: Sequence[Message],
        adapter: str | None,
        sampling: Sampling,
        salt: str = "",
        *,
        whole: bool = False,
    ) -> AsyncGenerator[Delta, None]:
        """Generate. Closing the iterator (or cancelling the task that reads it) stops the generation.

        Args:
            messages: as rendered by `bakeoff.prompts`.
            adapter: digest, or None for the base model. Loaded on demand.
            sampling: greedy at temperature 0.
            salt: answers of different salts share no prefix cache, where engines are asked by strangers.
            whole: nobody reads the answer before its end, so it may come as one delta.

        Raises:
            ContextTooLong: names the prompt's tokens and the window.
            EngineDown: the engine stopped.
        """
        ...

    async def close(self) -> None:
        """Stop everything, waiting for no one."""
        ...
