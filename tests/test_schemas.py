"""The schemas that users see are those of the code."""

from __future__ import annotations

from tests.write_schemas import FOLDER, schemas


def test_the_json_schemas_are_those_of_the_models() -> None:
    on_disk = {p.name: p.read_text() for p in FOLDER.glob("*.schema.json")}
    assert on_disk == schemas(), "run `make schemas`"
