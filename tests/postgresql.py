"""One PostgreSQL server of our own, started for the test session on a socket of its own; see conftest."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from bakeoff.database import open_database


def find_programs() -> Path | None:
    """Where PostgreSQL's programs are."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Path]:
    """A folder with the socket of a running server."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    as_user: list[str] = []
    home = Path(tempfile.mkdtemp(prefix="bakeoff-pg-"))  # the path of a socket has to be short
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        if shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no setpriv")
        os.chown(home, user.pw_uid, user.pw_gid)
        as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    data = home / "data"
    run = lambda *command: subprocess.run([*as_user, *map(str, command)], check=True, capture_output=True, cwd="/")
    try:
        run(programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {home} -c listen_addresses='' -c fsync=off"
        run(programs / "pg_ctl", "-D", data, "-w", "-l", home / "log", "-o", options, "start")
        try:
            yield home
        finally:
            run(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: Path, tmp_path: Path) -> Iterator[Engine]:
    """An empty database at the newest migration."""
    url = f"postgresql+psycopg://postgres@/postgres?host={postgres_server}"
    engine = open_database(url, tmp_path)
    yield engine
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
