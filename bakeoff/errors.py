"""Errors a user can fix. The message says what happened, with which value, and what to do next.

Everything else (a wrong argument from our own code) stays a built-in exception. Caught in two places only: the command
line turns them into one sentence and exit status 1, the service into an OpenAI error body.
"""


class BakeoffError(Exception):
    """Something the user can put right."""


class BadInput(BakeoffError):
    """A file, a field or a parameter that cannot be used as it is."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class NotFound(BakeoffError):
    """A domain, document, adapter, run, model, job or file that does not exist."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class NotAllowed(BakeoffError):
    """Something that the caller's key does not let them do."""


class BadKey(BakeoffError):
    """A request without an API key, or with one that does not open the service."""


class TooBusy(BakeoffError):
    """More is asked at once than can be answered, or than a key may ask for."""

    def __init__(self, message: str, code: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.code = code
        """OpenAI's `rate_limit_exceeded` for a key's own limit, `queue_full` for everyone's."""
        self.retry_after_s = retry_after_s


class TookTooLong(BakeoffError):
    """An answer that was not finished within the service's time limit."""


class NotReady(BakeoffError):
    """The thing can exist but has not been made yet; the message names the command that makes it."""


class ContextTooLong(BadInput):
    """The prompt and the completion do not fit the model's context window."""


class EngineDown(BakeoffError):
    """The engine cannot answer now."""


class DiskFull(BakeoffError):
    """There is no room left to store something."""


class Mismatch(BakeoffError):
    """An artefact that is damaged, or that was made for another model, embedder or format."""
