"""A policy as an ONNX file predicts what torch predicts, and says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from act_data.errors import DataError, InputError, NotFoundError, StoreError
from act_model import checkpoint as checkpoints
from act_model import runtime
from act_model.bench import bench
from act_model.export import onnx_file
from act_model.export.onnx_file import export_onnx
from act_model.export.onnx_policy import OnnxPolicy
from act_model.export.records import METADATA_KEY, ExportReport, OnnxMetadata
from act_model.nn import ActCvae
from act_model.nn.frozen_norm import FrozenNorm, fold_batch_norm
from act_model.policy import Policy
from act_model.robot_io import DatasetRobot
from tests.model.memory_dataset import MemoryDataset, dataset_of, schema_of
from tests.model.small_policy import K, save_checkpoint

Observation = dict[str, NDArray[np.generic]]


@pytest.fixture(scope="module")
def dataset() -> MemoryDataset:
    """Two cameras, of which one is resized for the network, and depth."""
    torch.set_num_threads(1)
    schema = schema_of(cameras={"top": (32, 48), "side": (50, 76)}, depth={"top": (32, 48)})
    return dataset_of(20, 15, val=1, schema=schema)


@pytest.fixture(scope="module")
def folder(dataset: MemoryDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("run") / "best", dataset, depth=("top",))


@pytest.fixture(scope="module")
def policy(folder: Path) -> Policy:
    return Policy.load(folder, "cpu")


@pytest.fixture(scope="module")
def report(policy: Policy, folder: Path) -> ExportReport:
    return export_onnx(policy, runtime.onnx_file_of(folder), check=True)


@pytest.fixture(scope="module")
def observations(dataset: MemoryDataset, policy: Policy) -> list[Observation]:
    robot = DatasetRobot(dataset, 0, policy.contract)
    rows = [robot.observe() for _ in range(5)]
    return [dict(row.arrays()) for row in rows if row is not None]


def test_the_file_predicts_what_torch_predicts(
    policy: Policy, report: ExportReport, folder: Path, observations: list[Observation]
) -> None:
    assert report.parity is not None
    assert 0 < report.parity <= 1e-5
    exported = runtime.load(folder, "onnx", "cpu")
    assert isinstance(exported, OnnxPolicy)
    factor = policy.transform.action_factor.numpy()
    for observation in observations:
        want, got = policy.predict(observation), exported.predict(observation)
        assert got.shape == (K, 3)
        assert got.dtype == np.float32
        assert np.abs((got - want) / factor).max() <= 1e-5
    assert not np.allclose(want, policy.predict(observations[0]), atol=1e-4), "all alike"


def test_any_batch_is_its_rows_side_by_side(
    report: ExportReport, folder: Path, observations: list[Observation]
) -> None:
    exported = OnnxPolicy(checkpoints.load(folder), Path(report.file), device="cpu")
    together = exported.predict_batch(
        {name: np.stack([o[name] for o in observations]) for name in observations[0]}
    )
    apart = np.stack([exported.predict(o) for o in observations])
    assert together.shape == (5, K, 3)
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-5)


def test_the_file_is_whole_onnx_without_batch_norm_and_says_what_it_is(
    policy: Policy, report: ExportReport
) -> None:
    model = onnx.load(report.file)
    onnx.checker.check_model(model, full_check=True)
    assert [opset.version for opset in model.opset_import if not opset.domain] == [report.opset]
    shapes = {
        i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim]
        for i in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "qpos": ["batch", 3],
        "images/top": ["batch", 32, 48, 3],
        "images/side": ["batch", 50, 76, 3],
        "depth/top": ["batch", 32, 48],
        "actions": ["batch", K, 3],
    }
    norms = sum(isinstance(m, FrozenNorm) for m in policy.network.modules())
    assert norms == 20, "the policy's own network is left as it is"
    # A frozen batch norm that was not folded multiplies after its convolution.
    convolved = {n.output[0] for n in model.graph.node if n.op_type == "Conv"}
    after = {n.op_type for n in model.graph.node if convolved & set(n.input)}
    assert not after & {"Mul", "BatchNormalization"}
    metadata = OnnxMetadata.model_validate_json(
        {p.key: p.value for p in model.metadata_props}[METADATA_KEY]
    )
    assert metadata.contract == policy.contract
    assert metadata.contract_digest == policy.contract.digest() == report.contract_digest
    assert "uint8 RGB" in metadata.boundary


def test_the_file_names_no_path_of_the_machine_that_wrote_it(report: ExportReport) -> None:
    content = Path(report.file).read_bytes()
    for path in ("site-packages", "act_model/", 'File "', str(Path.home())):
        assert path.encode() not in content


def test_folding_changes_no_feature(policy: Policy) -> None:
    network = ActCvae(policy.checkpoint.model).eval()
    network.load_state_dict(policy.network.state_dict())
    assert network.backbone is not None
    pictures = torch.randn(1, 2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = network.backbone(pictures)
        fold_batch_norm(network)
        after = network.backbone(pictures)
    assert not any(isinstance(m, FrozenNorm) for m in network.modules())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_an_observation_that_does_not_fit_is_refused_as_by_torch(
    report: ExportReport, folder: Path, observations: list[Observation]
) -> None:
    exported = runtime.load(folder, "onnx", "cpu")
    with pytest.raises(InputError, match=r"qpos: policy \(3,\) float32, robot nothing"):
        exported.predict({k: v for k, v in observations[0].items() if k != "qpos"})


def test_a_file_that_predicts_something_else_is_not_kept(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "MAX_PARITY", 1e-12)
    file = tmp_path / "best.onnx"
    file.write_bytes(b"what was there")
    with pytest.raises(DataError, match="other actions than torch"):
        export_onnx(policy, file, check=True)
    assert [p.name for p in tmp_path.iterdir()] == ["best.onnx"]
    assert file.read_bytes() == b"what was there"


def test_without_an_export_the_way_to_one_is_told(dataset: MemoryDataset, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "best", dataset)
    with pytest.raises(NotFoundError, match=r"best\.onnx") as told:
        runtime.load(folder, "onnx", "cpu")
    assert "act-model export" in told.value.hint


def test_an_export_of_other_weights_is_refused(
    dataset: MemoryDataset, report: ExportReport, tmp_path: Path
) -> None:
    folder = save_checkpoint(tmp_path / "best", dataset, depth=("top",), seed=1)
    (tmp_path / "best.onnx").write_bytes(Path(report.file).read_bytes())
    with pytest.raises(StoreError, match="other weights"):
        runtime.load(folder, "onnx", "cpu")


def rewritten(report: ExportReport, file: Path, text: str | None) -> Path:
    model = onnx.load(report.file)
    del model.metadata_props[:]
    if text is not None:
        onnx.helper.set_model_props(model, {METADATA_KEY: text})
    onnx.save(model, file)
    return file


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(None, "no export of this toolkit", id="foreign"),
        pytest.param("{", "metadata is damaged", id="no-json"),
        pytest.param("[]", "metadata is damaged", id="no-object"),
        pytest.param('{"format_version": 1}', "metadata is damaged", id="incomplete"),
        pytest.param('{"format_version": 99, "new": 1}', "format version 99", id="newer"),
    ],
)
def test_a_file_with_other_metadata_is_refused(
    report: ExportReport, folder: Path, tmp_path: Path, text: str | None, says: str
) -> None:
    file = rewritten(report, tmp_path / "x.onnx", text)
    with pytest.raises(StoreError, match=says):
        OnnxPolicy(checkpoints.load(folder), file, device="cpu")


def test_a_file_of_another_contract_is_refused(
    report: ExportReport, dataset: MemoryDataset, tmp_path: Path
) -> None:
    folder = save_checkpoint(tmp_path / "best", dataset)  # without depth
    with pytest.raises(InputError, match="another contract"):
        OnnxPolicy(checkpoints.load(folder), Path(report.file), device="cpu")


@pytest.mark.parametrize("size", [0, 100, 5000], ids=["empty", "cut-early", "cut-late"])
def test_a_damaged_file_is_refused(
    report: ExportReport, folder: Path, tmp_path: Path, size: int
) -> None:
    file = tmp_path / "x.onnx"
    file.write_bytes(Path(report.file).read_bytes()[:size])
    with pytest.raises(StoreError, match=r"x\.onnx"):
        OnnxPolicy(checkpoints.load(folder), file, device="cpu")


@pytest.mark.parametrize("device", ["cuda", "tpu"])
def test_a_device_that_is_not_there_is_refused(
    report: ExportReport, folder: Path, device: str
) -> None:
    with pytest.raises(InputError, match=device):
        OnnxPolicy(checkpoints.load(folder), Path(report.file), device=device)


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_bench_tells_parts_that_add_up(
    report: ExportReport, folder: Path, name: runtime.RuntimeName
) -> None:
    said = bench(folder, runtime=name, device="cpu", predictions=5)
    assert 0 < said.total.p50_ms <= said.total.p95_ms <= said.total.p99_ms
    assert said.load_s > 0
    assert said.peak_memory_mib > 50
    assert said.inputs["images/side"] == (50, 76, 3)
    parts = ["preprocess", "network", "postprocess"] if name == "torch" else []
    assert list(said.parts) == parts
    if parts:
        together = sum(part.p50_ms for part in said.parts.values())
        assert 0.5 * said.total.p50_ms < together < 2 * said.total.p50_ms
    assert json.loads(said.model_dump_json())["runtime"] == name
