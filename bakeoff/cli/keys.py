"""`bakeoff keys create | list | revoke`: who may ask the service, and what they may do."""

from datetime import UTC, datetime, timedelta

import click
import msgspec

from bakeoff.cli.output import group_option, json_option, print_json, say
from bakeoff.cli.workspace import Workspace
from bakeoff.database import writing
from bakeoff.keys import ApiKey, create_key, list_keys, revoke_key


@click.group("keys")
def keys_command() -> None:
    """Make, list and revoke the API keys of the service.

    Once a key was made, the service asks for one, on this machine too. A key is shown once; only its hash is stored.
    """


@keys_command.command("create")
@click.argument("name")
@group_option("Group whose documents it may see, beside everyone's; may be repeated.")
@click.option("--manage", is_flag=True, help="It may also upload, fill vector stores, train, and read /metrics.")
@click.option(
    "--expires", "days", type=click.FloatRange(0, min_open=True), metavar="DAYS", help="It ends after so many."
)
@click.option("--requests-per-minute", type=click.IntRange(1), metavar="N", help="Its own limit, in each replica.")
@json_option()
def create(
    name: str,
    groups: tuple[str, ...],
    manage: bool,
    days: float | None,
    requests_per_minute: int | None,
    as_json: bool,
) -> None:
    """Make a key for NAME (whose it is, or what for) and print it, this once."""
    from retrieval.permissions import check_groups

    engine = Workspace().engine
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with writing(engine) as connection:
        is_first = not list_keys(connection)
        key, secret = create_key(
            connection,
            name,
            check_groups(groups),
            manages=manage,
            requests_per_minute=requests_per_minute,
            expires_at=expires_at,
        )
    if as_json:
        print_json({**msgspec.to_builtins(key), "key": secret})
    else:
        click.echo(secret)
        say(f"This is the only time it is shown. {key.id}: {_describe(key)}")
    if is_first:
        say("It is the first key: from now on the service asks for one, on this machine too.")


@keys_command.command("list")
@json_option()
def list_command(as_json: bool) -> None:
    """List every key that was ever made, never the key itself."""
    with Workspace().engine.connect() as connection:
        keys = list_keys(connection)
    if as_json:
        print_json({"keys": keys})
        return
    for key in keys:
        click.echo(f"{key.id}  ...{key.hint}  {_state(key):8}  {key.name}  ({_describe(key)})")


@keys_command.command("revoke")
@click.argument("id_or_name", metavar="ID|NAME")
@json_option()
def revoke(id_or_name: str, as_json: bool) -> None:
    """End a key, for ever: from the next request on (within a second on PostgreSQL), in every replica."""
    with writing(Workspace().engine) as connection:
        key = revoke_key(connection, id_or_name)
        remaining = [each for each in list_keys(connection) if each.is_valid(datetime.now(UTC))]
    if as_json:
        print_json(key)
    else:
        click.echo(f"{key.id} ({key.name}) opens nothing any more")
    if not remaining:
        say("No valid key is left: the service answers nobody until you make one with: bakeoff keys create NAME")


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if key.is_valid(datetime.now(UTC)) else "expired"


def _describe(key: ApiKey) -> str:
    parts = ["asks and manages" if key.manages else "asks", f"groups: {', '.join(('everyone', *key.groups))}"]
    if key.requests_per_minute is not None:
        parts.append(f"{key.requests_per_minute} requests a minute")
    if key.expires_at is not None:
        parts.append(f"until {key.expires_at:%Y-%m-%d %H:%M} UTC")
    return "; ".join(parts)
