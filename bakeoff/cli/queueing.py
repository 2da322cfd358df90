"""`--queue`: a command submits itself as a job instead of running, with the very options it was given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from bakeoff.cli.output import print_json, say
from bakeoff.cli.workspace import Workspace
from bakeoff.database import writing
from bakeoff.jobs import JobKind, submit_job

Command = TypeVar("Command", bound=Callable[..., Any])


def queue_option() -> Callable[[Command], Command]:
    """The option `--queue`."""
    text = "Do not run it here: queue it for a worker (bakeoff serve, bakeoff worker)."
    return click.option("--queue", "as_job", is_flag=True, help=text)


def submit_this(
    context: click.Context, workspace: Workspace, kind: JobKind, domain: str, *, is_heavy: bool, as_json: bool
) -> None:
    """Queue the command that this context was made for, and say how to follow it."""
    with writing(workspace.engine) as connection:
        job = submit_job(connection, kind, domain, words_of(context), is_heavy=is_heavy)
    if as_json:
        print_json({"id": job.id, "status": job.status})
        return
    click.echo(job.id)
    say(f"Queued. Follow it: bakeoff jobs follow {job.id}")


def words_of(context: click.Context) -> list[str]:
    """The words that would run this command again from anywhere, without `--queue` and `--json`."""
    names: list[str] = []
    at: click.Context | None = context
    while at is not None and at.parent is not None:
        names.insert(0, at.info_name or "")
        at = at.parent
    arguments: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE or name in ("as_job", "as_json"):
            continue
        value = context.params[name]
        values = value if isinstance(value, tuple | list) else [value]
        if isinstance(parameter, click.Argument):
            arguments += [_word(one) for one in values]
        elif isinstance(value, bool):
            names.append(parameter.opts[-1] if value else parameter.secondary_opts[-1])
        elif parameter.multiple or not isinstance(value, tuple | list):
            names += [word for one in values for word in (parameter.opts[-1], _word(one))]
        else:
            names += [parameter.opts[-1], ",".join(_word(one) for one in values)]
    return [*names, *arguments]


def _word(value: object) -> str:
    if isinstance(value, Path):
        return str(value.resolve())
    return str(getattr(value, "name", value))
