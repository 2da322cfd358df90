"""Salts of the prefix cache: what separates callers becomes a value that nobody outside can guess.

vLLM shares computed prefixes between requests of one salt, so how fast an answer begins tells whether somebody asked
the same before. Whoever may see the same of a domain shares a salt; it is an HMAC with a secret of this home, so that
even another client of the same vLLM server cannot put itself among them.
"""

import base64
import hmac
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

KEY_FILE = "secret"
SECRET_BYTES = 32


def open_secret(home: Path) -> bytes:
    """Read the home's secret, which only its owner can; made when first asked for, by whichever process is first."""
    path = home / KEY_FILE
    home.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        partial = home / f".{KEY_FILE}.{secrets.token_hex(8)}.partial"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(SECRET_BYTES))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(partial, path)  # never over one that another process has made meanwhile
        finally:
            partial.unlink()
    return path.read_bytes()


def make_salter(secret: bytes) -> Callable[[str], str]:
    """A function from what separates callers to a salt of 43 characters."""

    @lru_cache(maxsize=4096)
    def salt(what: str) -> str:
        digest = hmac.digest(secret, what.encode(), "sha256")
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    return salt
