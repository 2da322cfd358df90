"""Groups with commands whose modules are imported when they are called, so that `--help` is instant."""

import importlib
from collections.abc import Mapping
from typing import Any

import click

Commands = Mapping[str, tuple[str, str]]
"""Name -> (module, one line of help); the module holds the command as `<name>_command`, with `_` for `-`."""


class LazyGroup(click.Group):
    """Knows every command's name and help; imports a command's module when it is called."""

    def __init__(self, *arguments: Any, commands_by_name: Commands, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._by_name = commands_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which they are shown."""
        return [*super().list_commands(ctx), *self._by_name]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in self._by_name:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(self._by_name[cmd_name][0])
        command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        there = [(name, command.get_short_help_str(80)) for name, command in sorted(self.commands.items())]
        with formatter.section("Commands"):
            formatter.write_dl([*there, *((name, text) for name, (_, text) in self._by_name.items())])
