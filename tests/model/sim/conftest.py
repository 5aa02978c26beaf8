"""Simulated datasets that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

from act_data.ingest import IngestSettings, ingest
from act_model.sim.demonstrations import SimulateRequest, simulate
from act_model.sim.records import Realism


def ingested(folder: Path, **request: object) -> Path:
    """Two demonstrations of Transfer Cube as a dataset; the recordings lie beside it."""
    fields = {"task": "transfer_cube", "out": folder / "bags", "episodes": 2} | request
    simulate(SimulateRequest.model_validate(fields))
    ingest([folder / "bags"], folder / "ds.zarr", IngestSettings())
    return folder / "ds.zarr"


@pytest.fixture(scope="session")
def by_realism(tmp_path_factory: pytest.TempPathFactory) -> dict[Realism, Path]:
    """A dataset for each level of realism, without pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACT_REGISTRY", str(tmp_path_factory.mktemp("registry") / "registry.db"))
        levels: tuple[Realism, ...] = ("none", "lab", "bad")
        return {
            level: ingested(tmp_path_factory.mktemp(f"sim-{level}"), realism=level)
            for level in levels
        }
