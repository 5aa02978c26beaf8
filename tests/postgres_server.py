"""A PostgreSQL server of the tests' own, on loopback, which is gone when they are."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest


def needs_postgres() -> Path:
    """The folder of the server's programs; without one the test is skipped."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if on_path:
        found.append(Path(on_path).resolve())
    if not found:
        pytest.skip("no PostgreSQL server here; Debian's package postgresql has it: make system")
    return found[-1].parent


@contextmanager
def running_server() -> Iterator[str]:
    """URL of a database in a new server, of a user with a password that nobody may see."""
    programs = needs_postgres()
    folder = Path(mkdtemp(prefix="act-postgres-"))
    if os.geteuid() == 0:  # initdb refuses root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
    data, log = folder / "data", folder / "log"
    port = _free_port()
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "max_connections": 20,
        "shared_buffers": "16MB",
    }
    options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
    try:
        initdb = ["-D", data, "-U", "act", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"]
        _unprivileged([programs / "initdb", *initdb], folder)
        control = [programs / "pg_ctl", "-D", data, "-w"]
        _unprivileged([*control, "-l", log, "-o", options, "start"], folder)
        try:
            yield f"postgresql+psycopg://act:do-not-show@127.0.0.1:{port}/postgres"
        finally:
            _unprivileged([*control, "-m", "immediate", "stop"], folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def own_schema(url: str, name: str) -> Iterator[str]:
    """`url` with a schema of its own called `name`, which is as good as a database and faster."""
    import sqlalchemy as sa

    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        db.exec_driver_sql(f'CREATE SCHEMA "{name}"')
    yield f"{url}?options=-csearch_path%3D{name}"
    with engine.connect() as db:
        db.exec_driver_sql(f'DROP SCHEMA "{name}" CASCADE')


def _unprivileged(command: Sequence[str | Path], folder: Path) -> None:
    drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    subprocess.run(
        [*(drop if os.geteuid() == 0 else []), *map(str, command)],
        check=True,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
