"""`bakeoff replay`: a stored question asked again under its own conditions, beside the answer of then."""

import shutil
import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING

import click

from bakeoff.cli.output import json_option, print_json, step
from bakeoff.cli.workspace import Workspace
from bakeoff.modes import MODES, find_mode

if TYPE_CHECKING:
    from service.replay import Replay


@click.command("replay")
@click.argument("answer_id", metavar="ID")
@click.option("--mode", type=click.Choice(list(MODES)), help="Another mode than the stored one.")
@click.option("--choice", default=0, show_default=True, type=click.IntRange(0), help="Which of several.")
@json_option()
def replay_command(answer_id: str, mode: str | None, choice: int, as_json: bool) -> None:
    """Ask the question of a stored answer again, and say what differs and why.

    With the same conversation, groups, sampling, adapter and epoch of the documents, by an engine of its own. ID is an
    answer's: the id of a completion, or from the log or `bakeoff answers list`. Nothing new is stored.
    """
    from service.archive import find_answer
    from service.parts import make_answerer, make_generator
    from service.replay import replay_now

    workspace = Workspace()
    with workspace.engine.connect() as connection:
        answer = find_answer(connection, answer_id, choice)
    generator = make_generator(workspace.settings)
    answerer, _ = make_answerer(workspace.settings, workspace.engine, generator, workspace.embedder)
    with step("Asking again"):
        result = replay_now(answerer, generator, answer, find_mode(mode) if mode else None)
    if as_json:
        print_json(result)
    else:
        _show(result)


def _show(result: "Replay") -> None:
    click.echo(result.question.strip() + "\n")
    width = max(shutil.get_terminal_size().columns // 2 - 2, 30)
    columns = [
        [f"{title} ({side.mode}, epoch {side.epoch})", "-" * width, *textwrap.wrap(side.completion, width)]
        for title, side in (("then", result.then), ("now", result.now))
    ]
    for left, right in zip_longest(*columns, fillvalue=""):
        click.echo(f"{left:{width}}    {right}".rstrip())
    click.echo()
    for what, is_same in (
        ("prompt", result.same_prompt),
        ("passages", result.same_passages),
        ("completion", result.same_completion),
    ):
        click.echo(f"{what:11} {'the same' if is_same else 'differs'}")
    for reason in result.reasons:
        click.echo(f"  {reason}")
