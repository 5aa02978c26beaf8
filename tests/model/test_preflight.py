"""What cannot work is refused before the first step, and says what would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from act_data.errors import DataError, InputError
from act_data.stats import compute
from act_model import memory
from act_model.checkpoint import contract_of
from act_model.config import TrainConfig
from act_model.families import FAMILIES
from act_model.memory import MemoryNeed, memory_need
from act_model.ranks import Ranks
from act_model.train import model_config, train
from tests.model.memory_dataset import dataset_of, schema_of
from tests.model.small_policy import TINY

ROOT = Path(__file__).parent.parent.parent
CPU = torch.device("cpu")
BLIND = schema_of(cameras={})


def test_a_chunk_longer_than_every_episode_says_how_long_the_longest_is(tmp_path: Path) -> None:
    reader, config = dataset_of(9, 12, 30, val=1, schema=BLIND), TrainConfig(device="cpu", steps=1)
    with pytest.raises(InputError, match=r"chunk of 13 .* longest has 12 steps") as caught:
        train(reader, out=tmp_path / "run", config=config, model={**TINY["act"], "chunk_size": 13})
    assert "the run contradicts itself" in str(caught.value)
    assert not (tmp_path / "run").exists()
    train(reader, out=tmp_path / "run", config=config, model={**TINY["act"], "chunk_size": 12})


def test_everything_that_the_dataset_does_not_have_is_said_at_once(tmp_path: Path) -> None:
    reader = dataset_of(9, schema=schema_of(cameras={"top": (32, 48)}))
    model = {
        **TINY["act"],
        "chunk_size": 10,
        "cameras": ("top", "left", "wrist"),
        "depth": ("top",),
    }
    with pytest.raises(InputError) as caught:
        train(reader, out=tmp_path / "run", config=TrainConfig(patience=2), model=model)
    for said in ("no cameras left, wrist: it has top", "no depth top: it has none",
                 "chunk of 10 actions", "patience is 2"):  # fmt: skip
        assert said in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_statistics_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float) -> None:
    reader = dataset_of(9, schema=BLIND)
    stats = compute(reader, "train")
    found = stats.features["action"]
    broken = found.model_copy(update={"std": (value, *found.std[1:])})
    stats = stats.model_copy(update={"features": {**stats.features, "action": broken}})
    with pytest.raises(DataError, match=rf"std of \S+ in 'action' is {value}") as caught:
        train(reader, out=tmp_path / "run", stats=stats, config=TrainConfig(device="cpu"),
              model={**TINY["act"], "chunk_size": 5})  # fmt: skip
    assert "act-data stats" in caught.value.hint


def need_of(name: str, batch: int = 8, **changes: object) -> MemoryNeed:
    """What a small network with one 64x96 camera takes."""
    schema = schema_of(cameras={"top": (64, 96)})
    config = TrainConfig.model_validate({"batch_size": batch, "device": "cpu", **changes})
    model = model_config(schema, config, {**TINY[name], "policy": name, "chunk_size": 5})
    torch.manual_seed(0)
    net = FAMILIES[name].build(model).train()
    contract = contract_of(schema, config, 5)
    return memory_need(FAMILIES[name], net, model, config, contract, CPU, Ranks())


def test_a_batch_that_does_not_fit_says_the_one_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = need_of("act")
    reader = dataset_of(9, schema=schema_of(cameras={"top": (64, 96)}))
    config = TrainConfig(device="cpu", batch_size=320, steps=1)
    room = need.of(100)
    monkeypatch.setattr(memory, "available_bytes", lambda device: room)
    model = {**TINY["act"], "chunk_size": 5}
    with pytest.raises(InputError, match=r"320 samples at once .* 100 samples fit") as caught:
        train(reader, out=tmp_path / "run", config=config, model=model)
    assert caught.value.hint == (
        "Use --batch-size 100, or keep the batch and set parts: 4 in --config."
    )
    in_parts = config.model_copy(update={"parts": 4})
    assert train(reader, out=tmp_path / "run", config=in_parts, model=model).steps == 1
    room = need.fixed
    with pytest.raises(InputError, match="not even one sample fits") as caught:
        train(reader, out=tmp_path / "other", config=config, model=model)
    assert "--image-size" in caught.value.hint


@pytest.mark.parametrize("name", FAMILIES)
def test_the_need_grows_with_the_batch_the_average_and_the_precision(name: str) -> None:
    need = need_of(name)
    assert need.of(320) - need.of(300) == 20 * need.per_sample
    assert need.largest(need.of(303)) == 303
    assert need.largest(need.of(303) - 1) == 302
    averaged = need_of(name, ema=0.9)
    weights = averaged.fixed - need.fixed
    assert need.saving == 2 * weights
    halved = need_of(name, precision="bf16").per_sample
    assert 0.4 < halved / need.per_sample < 0.95


def test_asking_leaves_the_network_as_it_was() -> None:
    """Batch norms, in a backbone that somebody else wrote, take note of every picture."""
    schema, config = schema_of(cameras={"top": (64, 96)}), TrainConfig(device="cpu")
    model = model_config(schema, config, {**TINY["act"], "chunk_size": 5})
    net = FAMILIES["act"].build(model).train()
    net.image_token = torch.nn.Sequential(net.image_token, torch.nn.BatchNorm2d(16))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    contract = contract_of(schema, config, 5)
    memory_need(FAMILIES["act"], net, model, config, contract, CPU, Ranks())
    after = net.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_asking_leaves_nothing_behind_in_memory() -> None:
    """Tensors that their own graph holds are never freed: a whole batch stayed once."""
    need_of("act")
    before = _resident()
    for _ in range(4):
        need_of("act")
    per_call = (_resident() - before) / 4
    assert per_call < need_of("act").per_sample


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_what_is_free_is_what_the_container_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = memory.available_bytes(CPU)
    assert here is not None
    assert here > 1e8
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 20000\nactive_file 30000\n")
    assert memory.available_bytes(CPU) == 1_000_000 - 700_000 + 50_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes(CPU) == pytest.approx(here, rel=0.3)


PEAK = """
import json, sys, tempfile
from pathlib import Path
import torch
from act_model import memory, train
from act_model.config import TrainConfig
from tests.model.memory_dataset import dataset_of, schema_of

def said(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

torch.set_num_threads(1)
schema = schema_of(cameras={f"c{n}": (120, 160) for n in range(int(sys.argv[1]))})
needs, base, real = [], [], memory.memory_need
def look(*arguments):
    base.append(said("VmRSS"))
    needs.append(real(*arguments))
    return needs[0]
memory.memory_need = look
with tempfile.TemporaryDirectory() as scratch:
    train.train(
        dataset_of(60, schema=schema), out=Path(scratch) / "run",
        config=TrainConfig(steps=2, batch_size=24, device="cpu", workers=1, val_every=1),
        model=json.loads(sys.argv[2]),
    )
print(json.dumps([needs[0].of(24), said("VmHWM") - base[0]]))
"""


def test_the_estimate_is_near_the_peak_that_training_has() -> None:
    model = {"hidden_dim": 256, "dropout": 0.1, "chunk_size": 50}
    ran = subprocess.run(
        [sys.executable, "-c", PEAK, "1", json.dumps(model)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    estimated, measured = json.loads(ran.stdout.splitlines()[-1])
    assert 0.8 < estimated / measured < 1.3, (estimated, measured)
