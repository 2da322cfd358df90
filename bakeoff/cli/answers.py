"""`bakeoff answers list | show | delete | purge`: what was asked and answered, and erasing it."""

from datetime import UTC, datetime

import click

from bakeoff.cli.output import confirm, domain_option, json_option, print_json
from bakeoff.cli.workspace import Workspace
from bakeoff.errors import BadInput


@click.group("answers")
def answers_command() -> None:
    """List, show and erase the answers that the service has stored."""


@answers_command.command("list")
@domain_option(required=False)
@click.option("--user", metavar="NAME", help="Only of this user, as the client named them.")
@click.option("--key", "owner", metavar="ID", help="Only of this API key.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many, the newest first.")
@json_option()
def list_command(domain: str | None, user: str | None, owner: str | None, limit: int, as_json: bool) -> None:
    """List answers without what was asked and said."""
    from service.archive import Wanted, list_answers, summarise

    with Workspace().engine.connect() as connection:
        rows = summarise(list_answers(connection, Wanted(domain=domain, user=user, owner=owner), limit))
    if as_json:
        print_json({"answers": rows})
        return
    for row in rows:
        end = row["error"] or row["finish_reason"] or ""
        when = row["created_at"].strftime("%Y-%m-%d %H:%M:%S")
        click.echo(f"{row['id']}  {row['choice']}  {when}  {row['model']:24}  {row['total_ms']:8.0f} ms  {end}")


@answers_command.command("show")
@click.argument("answer_id", metavar="ID")
@click.option("--choice", default=0, show_default=True, type=click.IntRange(0), help="Which of several.")
@json_option()
def show(answer_id: str, choice: int, as_json: bool) -> None:
    """Show one answer with everything that is stored of it."""
    from service.archive import find_answer

    with Workspace().engine.connect() as connection:
        answer = find_answer(connection, answer_id, choice)
    if as_json:
        print_json(answer)
        return
    for turn in answer.conversation:
        click.echo(f"{turn.role}: {turn.content}")
    click.echo(f"{answer.domain}/{answer.mode}: {answer.completion}\n")
    for field in answer.__struct_fields__:
        if field not in ("conversation", "completion"):
            value = getattr(answer, field)
            click.echo(f"{field:18} {', '.join(sorted(value)) if isinstance(value, frozenset) else value}")


@answers_command.command("delete")
@click.argument("answer_id", metavar="ID")
@json_option()
def delete(answer_id: str, as_json: bool) -> None:
    """Erase one answer with all its choices, and what the client stored of it."""
    from service.archive import erase_answer

    num_erased = erase_answer(Workspace().engine, answer_id)
    _say_erased(num_erased, as_json)


@answers_command.command("purge")
@click.option("--before", type=click.DateTime(), metavar="DATE", help="Older than this moment (UTC).")
@domain_option(required=False)
@click.option("--user", metavar="NAME", help="Only of this user, as the client named them.")
@click.option("--key", "owner", metavar="ID", help="Only of this API key.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option()
def purge(
    before: datetime | None, domain: str | None, user: str | None, owner: str | None, yes: bool, as_json: bool
) -> None:
    """Erase answers, from the disk too: old ones, of a user, of a key, of a domain, or what all of these share."""
    from service.archive import Wanted, erase_answers

    limit = None if before is None else before.replace(tzinfo=UTC)
    wanted = Wanted(domain=domain, user=user, owner=owner, before=limit)
    if not wanted.clauses():
        raise BadInput("say which answers: --before DATE, --user NAME, --key ID or --domain NAME")
    if not yes:
        confirm("Erase these answers for ever?")
    _say_erased(erase_answers(Workspace().engine, wanted), as_json)


def _say_erased(num_erased: int, as_json: bool) -> None:
    if as_json:
        print_json({"erased": num_erased})
    else:
        click.echo(f"{num_erased} answers erased")
