"""How long work tells whoever waits for it how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Called after every piece of work."""

    def __call__(self, done: int, total: int, note: str, /) -> None:
        """Say that `done` of `total` is done; `note` says what else there is to know in a few words."""
        ...
