"""A file of one JSON object per line."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from act_data.errors import StoreError
from act_model.jsonl import JsonLines


def lines_of(path: Path, **how: object) -> JsonLines:
    return JsonLines(path, content="the log", hint="Name another file.", **how)  # type: ignore[arg-type]


def test_a_line_can_be_read_before_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with lines_of(path) as log:
        log.write({"step": 1, "loss": 0.1})
        log.write({"step": 2, "text": "one\ntwo"})
        found = [json.loads(line) for line in path.read_text().splitlines()]
    assert found == [{"step": 1, "loss": 0.1}, {"step": 2, "text": "one\ntwo"}]


def test_what_was_there_is_forgotten_unless_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for keep, expected in ((None, [9]), (lambda entry: entry["step"] < 3, [1, 2, 9])):
        path.write_text("".join(json.dumps({"step": n}) + "\n" for n in (1, 2, 3)))
        with lines_of(path, keep=keep) as log:
            log.write({"step": 9})
        assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == expected
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_line_that_a_kill_cut_short_never_spoils_the_next_one(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "log"
    whole = '{"step": 1}\n'
    path.write_text(whole + whole[:-cut])
    with lines_of(path, keep=lambda _: True) as log:
        log.write({"step": 2})
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == ([1, 1, 2] if cut == 1 else [1, 2])  # only the line break was missing


def test_numbers_that_json_lacks_are_not_written(tmp_path: Path) -> None:
    with lines_of(tmp_path / "log") as log:
        with pytest.raises(ValueError, match="JSON"):
            log.write({"loss": float("nan")})
        log.write({"loss": 1.0})
    assert (tmp_path / "log").read_text() == '{"loss": 1.0}\n'


def test_a_file_that_cannot_be_written_is_a_store_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write the log: Is a directory") as caught:
        lines_of(tmp_path)
    assert caught.value.hint == "Name another file."


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to be out of space on")
def test_a_full_disk_is_a_store_error_also_when_the_file_is_closed() -> None:
    log = lines_of(Path("/dev/full"))
    with pytest.raises(StoreError, match="cannot write the log: No space left"):
        log.write({"step": 1})
    with contextlib.suppress(StoreError):
        log.close()
