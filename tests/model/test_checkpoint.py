from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from act_data.errors import InputError, NotFoundError, StoreError
from act_data.records import StatsRecord
from act_data.stats import compute
from act_model import checkpoint
from act_model.checkpoint import (
    Checkpoint,
    TrainerRecord,
    TrainerState,
    contract_of,
    load,
    load_trainer,
    load_weights,
    save,
)
from act_model.config import DatasetRef, ModelConfig, TrainConfig
from tests.model.memory_dataset import dataset_of, schema_of

SCHEMA = schema_of()
TRAIN = TrainConfig(lr=3e-4)
MODEL = ModelConfig(state_dim=3, action_dim=3, cameras=("top",), image_size=(32, 48), chunk_size=4)
REF = DatasetRef(path="ds.zarr", uid="u", version=2, content_hash="c", train=("a",), val=("b",))


@pytest.fixture(scope="module")
def stats() -> StatsRecord:
    return compute(dataset_of(6))


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"a.weight": torch.full((3, 2), value), "a.count": torch.tensor(7)}


def write(
    folder: Path, stats: StatsRecord, *, step: int = 1, trainer: TrainerState | None = None
) -> None:
    save(
        folder,
        weights=weights(float(step)),
        model=MODEL,
        train=TRAIN,
        contract=contract_of(SCHEMA, TRAIN, 4),
        stats=stats,
        dataset=REF,
        step=step,
        metrics={"l1": 0.25},
        trainer=trainer,
    )


def holds(folder: Path, step: int) -> bool:
    found = load(folder)
    return found.step == step and torch.equal(
        load_weights(found)["a.weight"], weights(float(step))["a.weight"]
    )


def test_what_was_saved_is_what_is_loaded(tmp_path: Path, stats: StatsRecord) -> None:
    write(tmp_path / "run" / "best", stats, step=5)
    assert load(tmp_path / "run" / "best") == Checkpoint(
        folder=tmp_path / "run" / "best",
        weights_sha256=sha256((tmp_path / "run/best/model.safetensors").read_bytes()).hexdigest(),
        model=MODEL,
        train=TRAIN,
        contract=contract_of(SCHEMA, TRAIN, 4),
        stats=stats,
        dataset=REF,
        step=5,
        metrics={"l1": 0.25},
    )
    assert holds(tmp_path / "run" / "best", 5)
    assert sorted(p.name for p in (tmp_path / "run" / "best").iterdir()) == [
        "config.json",
        "contract.json",
        "dataset.json",
        "model.safetensors",
        "stats.json",
    ]
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["best"]


def test_weights_that_lie_otherwise_in_memory_are_saved_by_value(
    tmp_path: Path, stats: StatsRecord
) -> None:
    tensor = torch.arange(12.0).reshape(3, 4).T
    save(
        tmp_path / "c",
        weights={"w": tensor},
        model=MODEL,
        train=TRAIN,
        contract=contract_of(SCHEMA, TRAIN, 4),
        stats=stats,
        dataset=REF,
        step=0,
        metrics={},
    )
    assert torch.equal(load_weights(load(tmp_path / "c"))["w"], tensor)


def test_the_training_state_comes_back_and_is_optional(tmp_path: Path, stats: StatsRecord) -> None:
    state = TrainerState(
        record=TrainerRecord(best=0.5, best_step=3), moments={"w/step": torch.tensor(4.0)}
    )
    write(tmp_path / "last", stats, trainer=state)
    back = load_trainer(load(tmp_path / "last"))
    assert back.record == state.record
    assert torch.equal(back.moments["w/step"], torch.tensor(4.0))
    write(tmp_path / "best", stats)
    with pytest.raises(NotFoundError, match="cannot be trained further"):
        load_trainer(load(tmp_path / "best"))


# --- whole or not at all ----------------------------------------------------------------------


class Killed(BaseException):
    """Stands in for a power cut: nothing after it is done."""


@pytest.mark.parametrize("survived", range(12))
def test_a_crash_at_any_moment_of_replacing_leaves_one_whole_checkpoint(
    tmp_path: Path, stats: StatsRecord, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    """The `survived`-th step on the file system is the last; then nobody tidies up."""
    folder = tmp_path / "last"
    write(folder, stats, step=1)
    calls = 0

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal calls
            if calls == survived:
                raise Killed
            calls += 1
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", counted(Path.rename))
        patch.setattr(Path, "mkdir", counted(Path.mkdir))
        patch.setattr(checkpoint, "_sync", counted(checkpoint._sync))
        patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
        with pytest.raises(Killed):
            write(folder, stats, step=2)
    assert holds(folder, 1) or holds(folder, 2)
    write(folder, stats, step=3)
    assert holds(folder, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


def test_between_the_two_renames_the_new_checkpoint_is_read(
    tmp_path: Path, stats: StatsRecord
) -> None:
    folder = tmp_path / "last"
    write(folder, stats, step=1)
    folder.rename(tmp_path / "last.old")
    write(tmp_path / "other", stats, step=2)
    (tmp_path / "other").rename(tmp_path / "last.new")
    assert holds(folder, 2)
    write(folder, stats, step=3)
    assert holds(folder, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


def test_a_first_save_that_was_cut_is_no_checkpoint(tmp_path: Path, stats: StatsRecord) -> None:
    (tmp_path / "last.new").mkdir()
    (tmp_path / "last.new" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(NotFoundError, match="last is no checkpoint"):
        load(tmp_path / "last")
    write(tmp_path / "last", stats)
    assert holds(tmp_path / "last", 1)


def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, stats: StatsRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "last"
    write(folder, stats, step=1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(StoreError, match=r"step 2.*No space left") as e:
            write(folder, stats, step=2)
        with pytest.raises(StoreError, match="No space left"):
            write(tmp_path / "first", stats)
    assert "untouched" in e.value.hint
    assert holds(folder, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


# --- bad input --------------------------------------------------------------------------------


def test_no_checkpoint_names_those_inside(tmp_path: Path, stats: StatsRecord) -> None:
    with pytest.raises(NotFoundError, match="is no checkpoint"):
        load(tmp_path / "nowhere")
    write(tmp_path / "run" / "best", stats)
    write(tmp_path / "run" / "last", stats)
    with pytest.raises(NotFoundError) as e:
        load(tmp_path / "run")
    assert e.value.hint == "It holds best, last: name one of them."


@pytest.mark.parametrize(
    "name", ["model.safetensors", "stats.json", "contract.json", "dataset.json", "config.json"]
)
@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_file_is_named(
    tmp_path: Path, stats: StatsRecord, name: str, damage: str
) -> None:
    folder = tmp_path / "c"
    write(folder, stats)
    data = bytearray((folder / name).read_bytes())
    if damage == "missing":
        (folder / name).unlink()
    elif damage == "cut":
        (folder / name).write_bytes(data[: len(data) // 2])
    else:
        data[1] ^= 0x80
        (folder / name).write_bytes(data)
    missing_config = (name, damage) == ("config.json", "missing")
    with pytest.raises(NotFoundError if missing_config else StoreError, match=name):
        load(folder)


def test_a_newer_format_asks_for_a_newer_toolkit(tmp_path: Path, stats: StatsRecord) -> None:
    write(tmp_path / "c", stats)
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    config |= {"format_version": 2, "unheard_of": True}
    (tmp_path / "c" / "config.json").write_text(json.dumps(config))
    with pytest.raises(StoreError, match="format version 2, this version reads up to 1") as e:
        load(tmp_path / "c")
    assert e.value.hint == "Update the toolkit."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"unheard_of": 1}, "at unheard_of", id="unknown-field"),
        pytest.param({"step": "many"}, "at step", id="wrong-type"),
        pytest.param({"format": "act-zarr"}, "not the configuration", id="another-format"),
        pytest.param({"files": {}}, "lists no contract.json, dataset.json", id="no-digests"),
    ],
)
def test_a_configuration_that_is_none_says_where(
    tmp_path: Path, stats: StatsRecord, change: dict[str, object], message: str
) -> None:
    write(tmp_path / "c", stats)
    path = tmp_path / "c" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=message):
        load(tmp_path / "c")


def test_a_file_name_that_leads_out_of_the_folder_is_refused(
    tmp_path: Path, stats: StatsRecord
) -> None:
    write(tmp_path / "c", stats)
    path = tmp_path / "c" / "config.json"
    config = json.loads(path.read_text())
    config["files"]["../../outside"] = {"bytes": 0, "sha256": ""}
    path.write_text(json.dumps(config))
    with pytest.raises(StoreError, match=r"'\.\./\.\./outside'"):
        load(tmp_path / "c")


# --- the contract -----------------------------------------------------------------------------


def test_the_contract_holds_what_a_policy_sees_and_says() -> None:
    schema = schema_of(cameras={"top": (32, 48), "wrist": (24, 40)}, depth={"top": (16, 24)})
    contract = contract_of(schema, TRAIN, 7, cameras=("wrist",), depth=())
    assert contract.robot == "one_arm"
    assert contract.rate_hz == 20.0
    assert contract.chunk_size == 7
    assert contract.state[0].names == ("arm/joint0", "arm/joint1", "arm/joint2")
    assert contract.action[0].unit == "rad"
    assert [(c.name, c.height, c.width) for c in contract.cameras] == [("wrist", 24, 40)]
    assert contract.depth == ()
    assert sorted(contract.streams) == ["arm", "command", "wrist"]


def test_the_contract_takes_all_pictures_unless_told() -> None:
    schema = schema_of(cameras={"top": (32, 48), "wrist": (24, 40)}, depth={"top": (16, 24)})
    contract = contract_of(schema, TRAIN, 7)
    assert [c.name for c in contract.cameras] == ["top", "wrist"]
    assert [c.name for c in contract.depth] == ["top"]


def test_elements_without_a_name_are_numbered() -> None:
    schema = SCHEMA.model_copy(
        update={"features": tuple(f.model_copy(update={"names": ()}) for f in SCHEMA.features)}
    )
    assert contract_of(schema, TRAIN, 4).state[0].names == ("qpos[0]", "qpos[1]", "qpos[2]")


def test_a_contract_on_an_unknown_camera_names_the_arrays() -> None:
    with pytest.raises(InputError, match="'images/front'") as e:
        contract_of(SCHEMA, TRAIN, 4, cameras=("front",))
    assert "images/top" in e.value.hint
