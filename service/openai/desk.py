"""What the routes that answer questions need, in one dependency.

Litestar starts a task for each dependency of a handler that has several, which costs more than answering; these routes
are asked thousands of times a second, so they ask for one.
"""

from msgspec import Struct

from bakeoff.settings import Settings
from service.exchange import Exchanges
from service.generator import Generator
from service.openai.chat.stored import StoredCompletions


class Desk(Struct, frozen=True):
    """Everything that stays the same from request to request."""

    exchanges: Exchanges
    generator: Generator
    stored_completions: StoredCompletions
    settings: Settings
