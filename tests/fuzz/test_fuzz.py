"""A short, repeatable part of what `python -m tests.fuzz.run` does for minutes."""

from __future__ import annotations

import random
import zlib
from contextlib import suppress

import pytest

from act_data.errors import ActError
from tests.fuzz.edits import mutated
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_the_bytes_nothing_but_an_act_error_gets_out(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    rng = random.Random(zlib.crc32(name.encode()))
    for data in [*seeds, *(mutated(rng, seeds) for _ in range(target.runs))]:
        with suppress(ActError):
            try:
                target.run(data)
            except Exception as e:
                e.add_note(f"the bytes were {data!r}")
                raise


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_a_seed_that_it_takes_to_its_end(name: str) -> None:
    target = TARGETS[name]
    taken = 0
    for seed in target.seeds():
        with suppress(ActError):
            target.run(seed)
            taken += 1
    assert taken
