"""How commands speak: results on stdout (text, or one JSON document with --json), progress on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
import msgspec
from tqdm import tqdm

from bakeoff.cli.reporting import report
from bakeoff.errors import BadInput, BakeoffError
from bakeoff.modes import DOMAIN_PATTERN, check_domain_name
from bakeoff.progress import Progress

LINE_EVERY_S = 5.0
Command = TypeVar("Command", bound=Callable[..., Any])


def print_json(value: object) -> None:
    """Print one JSON document."""
    click.echo(msgspec.json.encode(value, enc_hook=str).decode())


def say(text: str) -> None:
    """Tell the person what happens, on stderr."""
    click.echo(text, err=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    say(f"{title} ...")
    report(title)
    start = time.monotonic()
    yield
    say(f"{title}: done in {time.monotonic() - start:.1f} s")


@contextmanager
def progress_of(title: str) -> Iterator[Progress]:
    """A progress callback (done, in all, note): a bar on a terminal, a line every few seconds elsewhere.

    A worker that runs the command as a job is told too, through the pipe it gave; see `reporting`.
    """
    report(title)
    with _shown(title) as show:

        def tell(done: int, total: int, note: str) -> None:
            report(title, done, total, note)
            show(done, total, note)

        yield tell


@contextmanager
def _shown(title: str) -> Iterator[Progress]:
    if sys.stderr.isatty():
        with tqdm(desc=title, file=sys.stderr, leave=True, dynamic_ncols=True, disable=False) as bar:

            def draw(done: int, total: int, note: str) -> None:
                bar.total = total
                bar.set_postfix_str(note, refresh=False)
                bar.update(done - bar.n)

            yield draw
        return
    last = time.monotonic() - LINE_EVERY_S

    def write(done: int, total: int, note: str) -> None:
        nonlocal last
        if done >= total or time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            say(f"{title}: {done}/{total} {note}".rstrip())

    yield write


def _check_domain(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return check_domain_name(value)
    except BakeoffError as error:
        raise click.BadParameter(str(error)) from error


def domain_option(*, required: bool = True) -> Callable[[Command], Command]:
    """The option `--domain`."""
    text = f"Knowledge area ({DOMAIN_PATTERN})."
    return click.option("--domain", required=required, callback=_check_domain, metavar="NAME", help=text)


def json_option() -> Callable[[Command], Command]:
    """The option `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")


def confirm(text: str) -> None:
    """Ask before something that cannot be taken back.

    Raises:
        BadInput: nobody can be asked.
        click.Abort: the answer is no.
    """
    if not sys.stdin.isatty():
        raise BadInput(f"{text} Nothing was done: nobody can be asked here, so say --yes")
    click.confirm(text, abort=True, err=True)


def group_option(text: str, *, required: bool = False) -> Callable[[Command], Command]:
    """The option `--group`, which may be repeated."""
    return click.option("--group", "groups", multiple=True, required=required, metavar="NAME", help=text)
