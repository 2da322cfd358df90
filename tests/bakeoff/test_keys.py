"""API keys: made, found by their hash, ended; by function and by command."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from bakeoff.errors import BadInput, NotFound
from bakeoff.keys import count_changes, create_key, has_valid_key, hash_key, keys_by_hash, list_keys, revoke_key
from bakeoff.settings import Settings


def test_a_key_is_found_by_its_hash_and_never_stored(engine: Engine) -> None:
    with engine.begin() as connection:
        key, secret = create_key(connection, " Ann ", ["staff", "board", "staff"], manages=True, requests_per_minute=3)
    assert secret.startswith("bo-")
    assert len(secret) > 40
    with engine.connect() as connection:
        found = keys_by_hash(connection)[hash_key(secret)]
        rows = connection.execute(text("SELECT * FROM api_keys")).all()
    assert found == key
    assert (found.name, found.groups, found.manages, found.requests_per_minute) == ("Ann", ("board", "staff"), True, 3)
    assert secret not in str(rows)
    assert hash_key(secret) in str(rows)


def test_a_key_ends_when_it_is_revoked_or_expires(engine: Engine) -> None:
    now = datetime.now(UTC)
    with engine.begin() as connection:
        expired, _ = create_key(connection, "old", expires_at=now - timedelta(seconds=1))
        assert not expired.is_valid(now)
        assert not has_valid_key(connection)
        create_key(connection, "new", expires_at=now + timedelta(days=1))
        before = count_changes(connection)
        assert has_valid_key(connection)
        revoked = revoke_key(connection, "new")
        assert count_changes(connection) != before
        assert revoked.revoked_at is not None
        assert revoke_key(connection, revoked.id).revoked_at == revoked.revoked_at
        assert not has_valid_key(connection)
        assert [key.name for key in list_keys(connection)] == ["old", "new"]


def test_wrong_names_and_limits_are_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        for name in ("", "  ", "x" * 201):
            with pytest.raises(BadInput, match="name"):
                create_key(connection, name)
        with pytest.raises(BadInput, match="once a minute"):
            create_key(connection, "x", requests_per_minute=0)
        with pytest.raises(NotFound, match="bakeoff keys list"):
            revoke_key(connection, "nobody")
        create_key(connection, "twin")
        create_key(connection, "twin")
        with pytest.raises(BadInput, match="2 keys are named 'twin'"):
            revoke_key(connection, "twin")


def run(home: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "BAKEOFF_HOME": str(home), **environ}
    command = [sys.executable, "-m", "bakeoff.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)


def test_the_commands_make_list_and_revoke(tmp_path: Path) -> None:
    made = run(tmp_path, "keys", "create", "Ann", "--group", "staff", "--expires", "2")
    secret = made.stdout.strip()
    assert secret.startswith("bo-")
    assert "only time it is shown" in made.stderr
    assert "from now on the service asks for one" in made.stderr
    listed = run(tmp_path, "keys", "list")
    assert "valid     Ann  (asks; groups: everyone, staff; until 20" in listed.stdout
    assert secret not in listed.stdout + listed.stderr + run(tmp_path, "keys", "list", "--json").stdout
    revoked = run(tmp_path, "keys", "revoke", "Ann", "--json")
    assert json.loads(revoked.stdout)["revoked_at"]
    assert "No valid key is left" in revoked.stderr
    assert run(tmp_path, "keys", "revoke", "Bob").returncode == 1
    assert "group 'a b' is not a name" in run(tmp_path, "keys", "create", "x", "--group", "a b").stderr


def test_serve_refuses_another_address_without_a_valid_key(tmp_path: Path) -> None:
    refused = run(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104 - it is refused
    assert refused.returncode == 1
    assert "bakeoff keys create NAME" in refused.stderr
    run(tmp_path, "keys", "create", "Ann")
    run(tmp_path, "keys", "revoke", "Ann")
    assert run(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0").returncode == 1  # noqa: S104


def test_a_database_password_is_never_shown(tmp_path: Path) -> None:
    for url in ("postgresql://bob:s3cret@127.0.0.1:1/x", "postgresql://bob:s3cret@h:port/x", "foo://bob:s3cret@h/x"):
        failed = run(tmp_path, "keys", "list", BAKEOFF_DATABASE_URL=url)
        assert failed.returncode == 1, url
        assert failed.stderr.startswith("Error: ")
        assert "s3cret" not in failed.stderr
    assert Settings(database_url="postgresql://bob:s3cret@h/x").url.startswith("postgresql://")
