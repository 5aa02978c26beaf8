"""Checkpoints of ALOHA's programs become ours, and nothing that stands in them is run."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from act_data.errors import ActError, StoreError
from act_data.interfaces import DatasetReader
from act_model.config import ModelConfig
from act_model.legacy import ImportRequest, import_checkpoint
from act_model.legacy.pickled import arrays_in
from act_model.nn import ActCvae
from act_model.policy import Policy
from benchmarks.import_parity import CAMERAS, compared
from benchmarks.peers.act_layout import SIZE, Published, save_as_aloha
from tests.cli.commands import done, refused, run
from tests.model.memory_dataset import dataset_of, schema_of
from tests.model.unpickle_each import WALLS
from tests.small_robot import bag, entries, robot_file

PROGRAM = Path("act_model/legacy/unpickle.py").resolve()


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    there = tmp_path_factory.mktemp("robot")
    recording = bag(there, "a", entries(40, size=SIZE))
    done(run("act-data", "ingest", recording, "--out", there / "ds.zarr",
             "--robot", robot_file(there)))  # fmt: skip
    return there / "ds.zarr"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are read in this process: the other one takes seconds to start."""
    monkeypatch.setattr(
        "act_model.legacy.aloha.read_weights",
        lambda path, allow_pickle: torch.load(path, weights_only=True),
    )


def test_a_policy_of_act_is_deployed_by_the_usual_commands(robot: Path, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    save_as_aloha(theirs, Published(cameras=1, joints=2, chunk=7), "act")
    words = ("act-model", "import", theirs, "--out", ours, "--like", robot)
    refused(run(*words, "--camera", "cam"), "pickle", "--allow-pickle", code=2)
    refused(run(*words, "--allow-pickle"), "unnamed", "--camera", code=2)
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(Calls(_touch, tmp_path / "x")))
    evil = ("act-model", "import", tmp_path / "evil.ckpt", "--out", ours, "--like", robot)
    refused(run(*evil, "--allow-pickle"), "evil.ckpt was not read: it is no zip archive")
    said = json.loads(done(run(*words, "--allow-pickle", "--camera", "cam", "--json")))
    assert (said["dialect"], said["decoder_layers"], said["fresh"]) == ("act", 1, [])
    assert sum("decoder.layers." in name for name in said["left_out"]) == 6 * 18
    policy, seen = Policy.load(ours, "cpu"), np.load(theirs / "seen.npz")
    chunk = policy.predict({"qpos": seen["joints"][0], "images/cam": seen["pictures"][0, 0]})
    assert np.abs((chunk - seen["actions"][0]) / seen["std"]).max() < 1e-5
    done(run("act-model", "deploy", ours, "--source", f"{robot}#0", "--mode", "replay", "--json"))


@pytest.mark.parametrize(
    ("program", "fields"),
    [
        ("act", {"decoder_layers": 7}),
        ("act-plus-plus", {"per_camera": True}),
        ("act-plus-plus", {"per_camera": True, "style_layers": 0}),
        ("cobot_magic", {"per_camera": True}),
    ],
    ids=["decoder mended", "backbone per camera", "without an encoder", "agilex"],
)
@pytest.mark.usefixtures("here")
def test_a_policy_of_aloha_predicts_as_before(
    tmp_path: Path, program: str, fields: dict[str, Any]
) -> None:
    net = Published(cameras=2, joints=5, chunk=7, **fields)
    save_as_aloha(tmp_path / "theirs", net, program)
    row = compared("", tmp_path / "theirs", tmp_path / "ours")
    assert row["difference"] < 1e-5 < 1e-2 < row["spread"]


class DepthNet(nn.Module):
    """AgileX's, as its names and shapes tell it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 7, 2, 3)
        for n, (before, after) in enumerate(((64, 128), (128, 256))):
            down = nn.Module()
            down.conv1, down.bn1 = nn.Conv2d(before, after, 3, 4, 1), nn.BatchNorm2d(after)
            down.extra = nn.Sequential(nn.Conv2d(before, after, 1, 4), nn.BatchNorm2d(after))
            basic = nn.Module()
            basic.conv1, basic.bn1 = nn.Conv2d(after, after, 3, 1, 1), nn.BatchNorm2d(after)
            for block in (down, basic):
                block.conv2, block.bn2 = nn.Conv2d(after, after, 3, 1, 1), nn.BatchNorm2d(after)
            setattr(self, f"layer{n + 2}", nn.Sequential(down, basic))
        for name, tensor in self.state_dict().items():
            if "bn" in name or "extra.1" in name:
                tensor.copy_(torch.rand_like(tensor.float()) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for block in (*self.layer2, *self.layer3):  # type: ignore[misc, has-type]
            short = block.extra(x) if hasattr(block, "extra") else x
            inner = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
            x = (short + inner).relu()
        return x


@pytest.mark.usefixtures("here")
def test_depth_networks_of_agilex_are_kept_with_their_batch_norms(tmp_path: Path) -> None:
    net = Published(cameras=3, joints=5, chunk=7, per_camera=True)
    save_as_aloha(tmp_path / "theirs", net, "cobot_magic")
    weights = net.aloha("cobot_magic")
    depth = [DepthNet().eval() for _ in CAMERAS]
    for n, stem in enumerate(depth):
        weights |= {f"model.depth_backbones.{n}.{k}": t for k, t in stem.state_dict().items()}
    projection = torch.randn(32, 512 + 256, 1, 1)
    weights["model.input_proj.weight"] = projection
    torch.save(weights, tmp_path / "theirs" / "policy_best.ckpt")
    sizes = dict.fromkeys(CAMERAS, SIZE)
    schema = schema_of(state=5, action=5, cameras=sizes, depth=sizes)
    robot = cast(DatasetReader, dataset_of(2, schema=schema))
    # AgileX's programs know their cameras, so their names need not be told.
    request = ImportRequest(path=tmp_path / "theirs", out=tmp_path / "ours", allow_pickle=True)
    assert import_checkpoint(request, robot).dialect == "cobot_magic"
    policy = Policy.load(tmp_path / "ours", "cpu")
    network = policy.network
    assert isinstance(network, ActCvae)
    assert network.config.depth == CAMERAS
    millimetres = torch.randint(0, 4000, (2, 3, *SIZE)).to(torch.uint16)
    with torch.inference_mode():
        metres = policy.transform.depth(millimetres)
        assert metres is not None
        ours = network.depth_stems(metres)
        for n, stem in enumerate(depth):
            theirs = stem((millimetres[:, n, None].float() / 255 - 0.5) / 0.5)
            torch.testing.assert_close(ours[:, n], theirs, rtol=1e-4, atol=1e-4)
    both = torch.cat([network.image_token.weight, network.depth_token.weight], dim=1)
    assert torch.equal(both, projection)


@pytest.mark.usefixtures("here")
def test_a_policy_with_codes_is_told_how_many_groups_they_make(tmp_path: Path) -> None:
    net = Published(cameras=2, joints=5, chunk=7, per_camera=True)
    save_as_aloha(tmp_path / "theirs", net, "act-plus-plus")
    weights = net.aloha("act-plus-plus")
    weights["model.latent_proj.weight"] = torch.randn(12, 32)
    weights["model.latent_proj.bias"] = torch.randn(12)
    weights["model.latent_out_proj.weight"] = torch.randn(32, 12)
    torch.save(weights, tmp_path / "theirs" / "policy_last.ckpt")
    (tmp_path / "theirs" / "policy_best.ckpt").unlink()
    schema = schema_of(state=5, action=5, cameras=dict.fromkeys(CAMERAS[:2], SIZE))
    robot = cast(DatasetReader, dataset_of(2, schema=schema))

    def imported(classes: int | None) -> ModelConfig:
        request = ImportRequest(
            path=tmp_path / "theirs", out=tmp_path / "ours", cameras=CAMERAS[:2],
            allow_pickle=True, vq_classes=classes,
        )  # fmt: skip
        assert import_checkpoint(request, robot).dialect == "act-plus-plus"
        network = Policy.load(tmp_path / "ours", "cpu").network
        assert isinstance(network, ActCvae)
        return network.config

    for classes in (None, 5):
        with pytest.raises(ActError, match="12 numbers"):
            imported(classes)
    config = imported(4)
    assert (config.latent, config.vq_classes, config.vq_codes) == ("vq", 4, 3)
    assert config.vq_prior == "uniform"


def _weights(**changed: Tensor | None) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        weights = torch.load(folder / "policy_best.ckpt", weights_only=True)
        for name, tensor in changed.items():
            weights.pop(f"model.{name.replace('__', '.')}", None)
            if tensor is not None:
                weights[f"model.{name.replace('__', '.')}"] = tensor
        torch.save(weights, folder / "policy_best.ckpt")

    return change


def _numbers(**changed: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        stats = pickle.loads((folder / "dataset_stats.pkl").read_bytes()) | changed
        stats = {name: value for name, value in stats.items() if value is not None}
        (folder / "dataset_stats.pkl").write_bytes(pickle.dumps(stats))

    return change


@pytest.mark.parametrize(
    ("damage", "says", "code"),
    [
        (lambda f: (f / "dataset_stats.pkl").unlink(), "dataset_stats.pkl", 1),
        (_numbers(qpos_std=None), "qpos_std", 1),
        (_numbers(qpos_std=np.zeros(2)), "[0.0, 0.0]", 1),
        (_numbers(action_mean=np.zeros(3)), "statistics 3", 2),
        (_numbers(action_mean="zero"), "'action_mean' is no array", 1),
        (_weights(pos__weight=torch.ones(2, 32)), "model.pos.weight", 2),
        (_weights(action_head__weight=None), "action_head.weight", 2),
        (_weights(action_head__weight=torch.full((2, 32), torch.nan)), "not finite", 1),
        (_weights(depth_backbones__0__conv1__weight=torch.ones(1)), "AgileX", 2),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("here")
def test_what_cannot_be_imported_is_refused_and_leaves_nothing(
    robot: Path, tmp_path: Path, damage: Callable[[Path], None], says: str, code: int,
) -> None:  # fmt: skip
    save_as_aloha(tmp_path / "theirs", Published(cameras=1, joints=2, chunk=7), "act")
    damage(tmp_path / "theirs")
    ended = run("act-model", "import", tmp_path / "theirs", "--out", tmp_path / "ours", "--like",
                robot, "--allow-pickle", "--camera", "cam")  # fmt: skip
    refused(ended, says, code=code)
    assert not (tmp_path / "ours").exists()


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def _zip(path: Path, program: bytes, *, deflated: bool = False, storage: bytes = b"") -> None:
    """A checkpoint whose pickle is `program`."""
    kind = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, data in (
            ("data.pkl", program),
            ("byteorder", b"little"),
            ("data/0", storage),
            ("version", b"3\n"),
        ):
            archive.writestr(f"archive/{name}", data)


def _stored(path: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> None:
    """A tensor whose storage has one number."""
    program = (
        b"\x80\x02}U\x01actorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\n"
        b"U\x010U\x03cpuK\x01tQ" + pickle.dumps(offset, 2)[2:-1]
    )
    for numbers in (size, stride):
        program += b"(" + b"".join(pickle.dumps(n, 2)[2:-1] for n in numbers) + b"t"
    program += b"\x89ccollections\nOrderedDict\n)RtRs."
    _zip(path, program, storage=b"\0\0\0\0")


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        member = path.with_name("pickle")
        member.write_bytes(pickle.dumps(Calls(_touch, path)))
        archive.add(member, "pickle")
        member.unlink()


def _touch(path: Path) -> None:
    path.with_name("ran").touch()


def _script(path: Path) -> None:
    """By the name of a file in it torch knows a TorchScript program."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("constants.pkl", "data.pkl", "version"):
            archive.writestr(f"archive/{name}", b"3\n")


EVIL: dict[str, tuple[Callable[[Path], object], str]] = {
    "a call": (lambda p: torch.save({"a": Calls(_touch, p)}, p), "more than weights"),
    "a shell": (
        lambda p: torch.save(Calls(__import__("os").system, f"touch {p}.ran"), p),
        "more than weights: ",
    ),
    "code": (lambda p: torch.save({"a": Calls(eval, "1 + 1")}, p), "more than weights"),
    "a program": (lambda p: torch.save(Calls(subprocess.Popen, ["true"]), p), "more than weights"),
    "an import": (lambda p: torch.save(Calls(__import__, "wave"), p), "more than weights"),
    "a numpy file": (lambda p: torch.save(Calls(np.load, str(p)), p), "more than weights"),
    "a hub": (lambda p: torch.save(Calls(torch.hub.load, "a/b", "c"), p), "more than weights"),
    "another load": (lambda p: torch.save(Calls(torch.load, str(p)), p), "more than weights"),
    "a module": (lambda p: torch.save(nn.Linear(2, 2), p), "more than weights"),
    "TorchScript": (_script, "RuntimeError"),
    "a raw pickle": (lambda p: p.write_bytes(pickle.dumps(Calls(_touch, p))), "no zip"),
    "the old format": (
        lambda p: torch.save({"a": Calls(_touch, p)}, p, _use_new_zipfile_serialization=False),
        "no zip",
    ),
    "a tar": (_tar, "no zip"),
    "nothing": (lambda p: p.write_bytes(b""), "no zip"),
    "half a file": (lambda p: p.write_bytes(_whole(p)[:700]), "RuntimeError"),
    "a list": (lambda p: torch.save([torch.ones(2)], p), "holds a list"),
    "an empty dict": (lambda p: torch.save({}, p), "holds a dict"),
    "a nested dict": (lambda p: torch.save({"nets": {"a": torch.ones(2)}}, p), "'nets' is a dict"),
    "a number for a name": (lambda p: torch.save({1: torch.ones(2)}, p), "'1' is a Tensor"),
    "a sparse tensor": (lambda p: torch.save({"a": torch.eye(9).to_sparse()}, p), ""),
    "a view of everything": (lambda p: _stored(p, (1 << 20, 1 << 20), (0, 0)), "the file"),
    "a view out of bounds": (lambda p: _stored(p, (1 << 20,), (1,)), "not resizable"),
    "a view before the start": (lambda p: _stored(p, (1,), (1,), -4), "Error"),
    "a bomb": (
        lambda p: _zip(p, b"\x80\x02}" + bytes(1 << 30) + b".", deflated=True),
        "more memory",
    ),
    "a deep pickle": (lambda p: _zip(p, b"\x80\x02" + b"]" * 10**6 + b"a" * 10**6 + b"."), ""),
}


def _whole(path: Path) -> bytes:
    torch.save({"a": torch.ones(1000)}, path)
    return path.read_bytes()


@cache
def outcomes(folder: Path) -> dict[str, tuple[int, str]]:
    """What became of each evil file, and of each attempt at a wall."""
    folder.mkdir()
    for name, (make, _) in EVIL.items():
        make(folder / name)
    _whole(folder / "a good one")
    program = Path(__file__).with_name("unpickle_each.py")
    ended = subprocess.run(
        [sys.executable, program, PROGRAM, folder], capture_output=True, text=True, check=True
    )
    assert sorted(path.name for path in folder.iterdir()) == sorted([*EVIL, "a good one"])
    found: dict[str, tuple[int, str]] = json.loads(ended.stdout)
    return found


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    return outcomes(tmp_path_factory.mktemp("evil") / "files")


@pytest.mark.parametrize("name", EVIL)
def test_an_evil_checkpoint_ends_as_an_error_and_runs_nothing(
    tried: dict[str, tuple[int, str]], name: str
) -> None:
    assert tried["a good one"] == [0, ""]
    code, said = tried[name]
    assert code == 3
    assert EVIL[name][1] in said


@pytest.mark.parametrize("name", WALLS)
def test_behind_the_reader_of_weights_there_is_a_wall(
    tried: dict[str, tuple[int, str]], name: str
) -> None:
    code, said = tried[name]
    if name == "compute for long":
        assert code == -9
    else:
        assert code == 3
        assert said.startswith(("PermissionError: ", "OSError: [Errno ", "MemoryError"))


def _bytes(program: bytes) -> bytes:
    return b"\x80\x03}" + program + b"."


EVIL_NUMBERS: dict[str, tuple[bytes, str]] = {
    "a call": (pickle.dumps(Calls(_touch, Path("x"))), "would import"),
    "a shell": (pickle.dumps({"a": Calls(__import__("os").system, "true")}), "posix.system"),
    "code": (pickle.dumps({"a": Calls(eval, "1")}, 2), "__builtin__.eval"),
    "a file": (pickle.dumps({"a": Calls(np.load, "x")}), "numpy"),
    "a constructor called as another": (
        _bytes(b"X\x01\0\0\0acnumpy\nndarray\n)Rs"), "numpy.ndarray is called"),
    "an old instance": (_bytes(b"(ios\nsystem\n"), "instruction INST"),
    "an object": (b"\x80\x04(cos\nsystem\no.", "would import"),
    "an extension": (_bytes(b"\x82\x01"), "instruction EXT1"),
    "something kept elsewhere": (_bytes(b"Pone\n"), "instruction PERSID"),
    "a buffer kept elsewhere": (b"\x80\x05\x97.", "instruction NEXT_BUFFER"),
    "objects": (pickle.dumps({"a": np.array([None])}), "an array of 'O8'"),
    "text": (pickle.dumps({"a": np.array(["abc"])}), "an array of 'U3'"),
    "integers": (pickle.dumps({"a": np.arange(3)}), "an array of 'i8'"),
    "records": (pickle.dumps({"a": np.zeros(2, [("x", "f4")])}), "an array of 'V4'"),
    "a list": (pickle.dumps([1.0]), "instruction EMPTY_LIST"),
    "a string": (pickle.dumps({"a": "b"}), "'a' is no array"),
    "a number for a name": (pickle.dumps({1: np.ones(2)}), "a int where a str belongs"),
    "more shape than bytes": (
        pickle.dumps({"a": np.ones(3)}, 4).replace(b"K\x03\x85", b"K\x63\x85"), "(99,) of 24"),
    "a state for a dict": (_bytes(b")b"), "the state of a dict"),
    "nothing on the stack": (b"\x80\x030.", "instruction POP"),
    "no mark": (_bytes(b"t"), "no mark"),
    "what is not there": (_bytes(b"h\x07"), "no object 7"),
    "many instructions": (b"\x80\x04" + b")" * 20_000 + b".", "more than 10000"),
    "a long promise": (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0f.", ""),
    "half a file": (pickle.dumps({"a": np.ones(9)})[:-40], ""),
    "nothing": (b"", ""),
    "two objects": (b"\x80\x03}}.", "more than one"),
}  # fmt: skip


@pytest.mark.parametrize("name", EVIL_NUMBERS)
def test_evil_statistics_are_an_error_that_says_what_they_would_do(name: str) -> None:
    data, says = EVIL_NUMBERS[name]
    with pytest.raises(StoreError) as refused:
        arrays_in(data, "dataset_stats.pkl")
    assert says in str(refused.value)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_are_read_as_every_protocol_writes_them(protocol: int) -> None:
    arrays = {
        "row": np.arange(3, dtype=np.float32), "doubles": np.linspace(0, 1, 5),
        "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "one": np.float32(3),
        "none": np.zeros((0, 4)), "big-endian": np.arange(3, dtype=">f8"), "scalar": np.array(2.5),
        "a view": np.arange(10.0)[::3],
    }  # fmt: skip
    found = arrays_in(pickle.dumps(arrays, protocol), "x")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
