"""A policy as one ONNX file that needs no code of ours: the door to `onnx`.

The graph goes from what the robot delivers to what it takes; `BOUNDARY` says it in words. Frozen
batch norms are folded into their convolutions, the batch is dynamic, and the contract stands in the
file's metadata.

Shape suffixes: B batch, N cameras, M depth cameras, C channels, H height, W width, S state dim,
K action chunk, A action dim.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from act_data.errors import DataError, InputError, NotFoundError, StoreError
from act_model.contract import blank_observation
from act_model.export.onnx_policy import OnnxPolicy
from act_model.export.records import METADATA_KEY, ExportReport, OnnxMetadata
from act_model.nn import ActCvae
from act_model.nn.frozen_norm import fold_batch_norm
from act_model.policy import Policy

try:
    import onnx
except ImportError as e:
    _missing: ImportError | None = e
else:
    _missing = None

OPSET = 20
MAX_PARITY = 1e-5  # normalised units
OUTPUT = "actions"
_CHECKED_BATCHES = (1, 3)


def export_onnx(policy: Policy, file: Path, *, check: bool = False) -> ExportReport:
    """Write `policy` to `file`, in place of the one that may be there.

    Args:
        policy: On the CPU.
        check: Predict with both from random observations, in batches of 1 and 3, and refuse a file
            that differs from torch by more than 1e-5 in normalised units.

    Raises:
        NotFoundError: The package onnx is not installed.
        InputError: The network is of a family that has no ONNX form yet.
        DataError: The file does not predict what torch predicts; `file` is as it was.
        StoreError: It cannot be written.
    """
    if _missing is not None:
        raise NotFoundError(
            f"an export needs the package onnx: {_missing}",
            hint="pip install 'act-toolkit[export]'",
        )
    if not isinstance(policy.network, ActCvae):
        raise InputError(
            f"{type(policy.network).__name__} cannot be exported to ONNX",
            hint="ACT policies can; run this one with --runtime torch.",
        )
    if policy.network.prior is not None and policy.network.config.vq_prior == "sample":
        raise InputError(
            "a policy that draws its codes predicts something else each time",
            hint="Run it with --runtime torch.",
        )
    metadata = OnnxMetadata(
        contract=policy.contract,
        contract_digest=policy.contract.digest(),
        weights_sha256=policy.checkpoint.weights_sha256,
        step=policy.checkpoint.step,
    )
    partial = file.with_name(f".{file.name}.partial")
    try:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            inputs = _write(policy, metadata, partial)
        except OSError as e:
            raise StoreError(
                f"{file}: cannot be written: {e.strerror or e}",
                hint="Make room, or name another place with --out.",
            ) from e
        report = ExportReport(
            checkpoint=str(policy.checkpoint.folder),
            file=str(file),
            bytes=partial.stat().st_size,
            opset=OPSET,
            inputs=inputs,
            outputs=(OUTPUT,),
            contract_digest=metadata.contract_digest,
        )
        if check:
            report = report.model_copy(update=_checked(policy, partial))
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return report


class _Graph(nn.Module):
    """From what the robot delivers to what it takes."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        contract = policy.contract
        self.vectors, self.cameras = len(contract.state), len(contract.cameras)
        self.transform = policy.transform
        self.network = copy.deepcopy(policy.network)
        fold_batch_norm(self.network)

    def forward(self, *arrays: Tensor) -> Tensor:
        """(B, K, A), from the arrays of `blank_observation`, each with a batch before it."""
        after = self.vectors + self.cameras
        output = self.network(
            self.transform.images(list(arrays[self.vectors : after])),
            self.transform.state(torch.cat(arrays[: self.vectors], dim=1)),
            depth_BM1HW=self.transform.depth(list(arrays[after:])),
        )
        actions_BKA: Tensor = self.transform.unaction(output.actions_BKA)
        return actions_BKA


def _write(policy: Policy, metadata: OnnxMetadata, file: Path) -> tuple[str, ...]:
    blank = blank_observation(policy.contract)
    names = tuple(blank)
    # Two rows: the tracer would take a batch of one for a constant.
    example = tuple(torch.from_numpy(np.stack([a, a])) for a in blank.values())
    batch = torch.export.Dim("batch")
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _Graph(policy).eval(),
            example,
            input_names=names,
            output_names=(OUTPUT,),
            opset_version=OPSET,
            dynamic_shapes=(tuple({0: batch} for _ in example),),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # no file was named, so it is given back
    model = program.model_proto
    _strip(model)
    model.producer_name = "act-toolkit"
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.model_dump_json()})
    onnx.checker.check_model(model, full_check=True)
    file.write_bytes(model.SerializeToString())
    return names


def _strip(model: onnx.ModelProto) -> None:
    """Leave out what the exporter notes of the machine: source paths, in every node."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for tensor in graph.initializer:
        tensor.doc_string = ""


def _checked(policy: Policy, file: Path) -> dict[str, float | int]:
    exported = OnnxPolicy(policy.checkpoint, file)
    graph = _Torch(policy)
    rng = np.random.default_rng(0)
    factor_A = policy.transform.action_factor.numpy()
    worst = worst_units = 0.0
    for count in _CHECKED_BATCHES:
        observations = [_random_observation(policy, rng) for _ in range(count)]
        batch = {name: np.stack([o[name] for o in observations]) for name in observations[0]}
        difference = np.abs(exported.predict_batch(batch) - graph.predict_batch(batch))
        worst_units = max(worst_units, float(difference.max()))
        worst = max(worst, float((difference / np.abs(factor_A)).max()))
    if not worst <= MAX_PARITY:
        raise DataError(
            f"{file.name}: predicts other actions than torch, by up to {worst:.1e} in normalised "
            f"units (allowed: {MAX_PARITY:.0e})",
            hint="Deploy with --runtime torch, and report the checkpoint's config.json.",
        )
    return {"parity": worst, "parity_units": worst_units, "checked": sum(_CHECKED_BATCHES)}


class _Torch:
    """The policy as training evaluates it: batch norms not folded."""

    def __init__(self, policy: Policy) -> None:
        self._graph = _Graph(policy).eval()
        self._graph.network = policy.network

    def predict_batch(self, batch: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        with torch.inference_mode():
            actions_BKA: NDArray[np.float32] = self._graph(
                *(torch.from_numpy(a) for a in batch.values())
            ).numpy()
        return actions_BKA


def _random_observation(policy: Policy, rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    """Pictures of noise, and states of about where the training data was."""
    observation = blank_observation(policy.contract)
    for name, blank in observation.items():
        if blank.dtype == np.float32:
            seen = policy.stats.features[name]
            # A number that was never finite in the data has no mean: 0.
            mean, std = (np.nan_to_num(np.array(v, np.float64)) for v in (seen.mean, seen.std))
            observation[name] = rng.normal(mean, std).astype(np.float32)
        elif blank.dtype == np.uint8:
            observation[name] = rng.integers(0, 256, blank.shape, np.uint8)
        else:
            observation[name] = rng.integers(0, 3000, blank.shape, np.uint16)
    return observation


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own habits, on every network."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
