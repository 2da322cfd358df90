"""The page on the command line beside the code that it describes."""

import re
from collections.abc import Iterator
from itertools import product

import click
import msgspec

from bakeoff.cli.main import bakeoff
from bakeoff.settings import CHECKOUT, Settings

PAGE = (CHECKOUT / "docs" / "guide" / "commands.md").read_text()


def commands_below(group: click.Group, context: click.Context, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands_below(command, click.Context(command, context, name), (*path, name))


def commands_on(page: str) -> Iterator[tuple[str, ...]]:
    """`bakeoff jobs cancel|pause JOB` -> (jobs, cancel) and (jobs, pause)."""
    for words in re.findall(r"`bakeoff((?:\s+[a-z][a-z|-]*)+)", page.replace("\\|", "|")):
        yield from product(*(word.split("|") for word in words.split()))


def test_every_command_is_on_the_page_and_no_other() -> None:
    assert set(commands_on(PAGE)) == set(commands_below(bakeoff, click.Context(bakeoff)))


def test_every_setting_is_on_the_page_and_no_other() -> None:
    named = set(re.findall(r"BAKEOFF_[A-Z_]*[A-Z]", PAGE))
    assert named == {f"BAKEOFF_{field.name.upper()}" for field in msgspec.structs.fields(Settings)}
