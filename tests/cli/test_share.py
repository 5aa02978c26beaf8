"""act-data push, pull and clone, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from act_data.errors import StoreError, without_secrets
from tests.cli.commands import done, refused, run
from tests.data.remotes.datasets import make


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACT_REGISTRY", str(tmp_path / "registry.db"))
    make(tmp_path / "ds.zarr")


def test_there_and_back_by_name(tmp_path: Path) -> None:
    assert done(run("act-data", "push", "ds.zarr", "team")) == f"{tmp_path}/team/ds@v2\n"
    report = json.loads(done(run("act-data", "pull", "team/ds", "-o", "copy.zarr", "--json")))
    assert (report["name"], report["version"], report["versions"]) == ("ds", 2, [2])
    assert done(run("act-data", "clone", "team/ds", "all.zarr")) == f"{tmp_path}/all.zarr\n"
    done(run("act-data", "verify", "copy.zarr"))
    done(run("act-data", "verify", "all.zarr@1", "--deep"))


def test_a_part_by_options(tmp_path: Path) -> None:
    done(run("act-data", "push", "ds.zarr", "team", "--name", "reach"))
    words = ("pull", "team/reach", "--cameras", "none", "--episodes", "1, e0", "-o", "p.zarr")
    planned = json.loads(done(run("act-data", *words, "--dry-run", "--json")))
    assert planned["part"]
    assert not (tmp_path / "p.zarr").exists()
    ended = run("act-data", *words)
    assert "a part of reach@v2, 2 episodes" in ended.err
    shown = done(run("act-data", "show", "p.zarr"))
    assert "a part of reach@v2" in shown
    assert "2 of 2 episodes, without images/cam_high\n" in shown
    assert shown.count("images/cam_high") == 1, "it is in no table of arrays"


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        pytest.param(("pull", "team/none"), ("no dataset 'none'",), 1, id="no-dataset"),
        pytest.param(("pull", "team/ds@prod"), ("'prod'", "latest, v1, v2"), 1, id="no-tag"),
        pytest.param(("pull", "team/.."), ("'..'", "letters"), 2, id="no-name"),
        pytest.param(("pull", ""), ("''", "letters"), 2, id="nothing"),
        pytest.param(("pull", "nowhere://x/ds"), ("nowhere", "act-toolkit"), 2, id="no-protocol"),
        pytest.param(("pull", "team/ds", "--episodes", "9"), ("'9'", "2, from 0"), 1, id="episode"),
        pytest.param(("pull", "team/ds", "-o", "s3://x/y.zarr"), ("no place",), 2, id="out-url"),
        pytest.param(("push", "none.zarr", "team"), ("none.zarr",), 1, id="no-source"),
        pytest.param(("push", "ds.zarr", "team", "--name", "a/b"), ("'a/b'",), 2, id="bad-name"),
        pytest.param(("push", "ds.zarr", "ds.zarr/zarr.json"), ("not a folder",), 1, id="a-file"),
        pytest.param(("clone", "team/ds@v9", "c.zarr"), ("'v9'",), 1, id="no-version"),
    ],
)
def test_mistakes_are_two_lines(words: tuple[str, ...], says: tuple[str, ...], code: int) -> None:
    done(run("act-data", "push", "ds.zarr", "team"))
    refused(run("act-data", *words), *says, code=code)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("sftp://ann:hunter2@h:22/x", "sftp://h:22/x"),
        ("s3://AKIA:se/cr+et@team/ds@v3", "s3://team/ds@v3"),
        ("https://tok3n@h/x?X-Amz-Signature=abc", "https://h/x"),
        ("ftp://ann:p@ss@h/x", "ftp://h/x"),
        ("s3://team/ds@v3", "s3://team/ds@v3"),
        ("http://h:9000/ds@v3", "http://h:9000/ds@v3"),
    ],
)
def test_what_is_secret_in_an_address_is_not_shown(address: str, shown: str) -> None:
    assert without_secrets(address) == shown
    error = StoreError(f"{address!r} cannot be read", hint=f"See {address}.")
    assert shown in str(error)
    for secret in ("hunter2", "se/cr+et", "tok3n", "abc", "p@ss"):
        assert secret not in f"{error} {error.hint}"


def test_a_password_is_in_no_line_that_a_command_prints() -> None:
    for address in ("http://ann:hunter2@127.0.0.1:9/team", "nowhere://ann:hunter2@h/team"):
        for words in (("pull", f"{address}/ds"), ("push", "ds.zarr", address)):
            ended = run("act-data", *words)
            assert ended.code != 0
            assert "hunter2" not in ended.out + ended.err
