"""An exported policy, run by ONNX Runtime: the door to `onnxruntime`.

Shape suffixes: K action chunk, A action dim, B batch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from act_data.errors import InputError, NotFoundError, StoreError
from act_data.records import StatsRecord
from act_model.checkpoint import Checkpoint
from act_model.config import Contract
from act_model.contract import check_observation
from act_model.export.records import FORMAT_VERSION, METADATA_KEY, OnnxMetadata

try:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as native
except ImportError as e:
    _missing: ImportError | None = e
else:
    _missing = None

_EXPORT = "Export it again: `act-model export CHECKPOINT --to onnx`."


class OnnxPolicy:
    """As `Policy`, without torch in the way of a prediction.

    Attributes:
        checkpoint: What it was exported from.
        contract: What it needs to see and what it delivers.
        stats: Of the data it was trained on.
    """

    def __init__(self, checkpoint: Checkpoint, file: Path, *, device: str = "auto") -> None:
        """The policy in `file`.

        Args:
            checkpoint: What `file` must have been exported from, with the same contract.
            device: "cpu", "cuda", or "auto": the GPU where this ONNX Runtime can use one.

        Raises:
            NotFoundError: There is no `file`, or the package onnxruntime is not installed.
            StoreError: `file` is damaged, or newer than this version reads.
            InputError: There is no such device, or `file` is of another contract.
        """
        if _missing is not None:
            raise NotFoundError(
                f"running an exported policy needs the package onnxruntime: {_missing}",
                hint="pip install 'act-toolkit[export]'",
            )
        if not file.is_file():
            raise NotFoundError(
                f"there is no {file}", hint=f"Export it: `act-model export {checkpoint.folder}`."
            )
        self.checkpoint = checkpoint
        self.contract: Contract = checkpoint.contract
        self.stats: StatsRecord = checkpoint.stats
        options = onnxruntime.SessionOptions()
        # As torch: by the environment. Its threads sleep between predictions: those that spin take
        # the processor from the control loop.
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0") or 0)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                file, options, providers=_providers(device)
            )
        except _load_errors() as e:
            raise StoreError(f"{file} cannot be read: {_first_line(e)}", hint=_EXPORT) from e
        self.metadata = _metadata(file, self._session.get_modelmeta().custom_metadata_map)
        if self.metadata.contract_digest != self.contract.digest():
            raise InputError(f"{file} was exported with another contract", hint=_EXPORT)

    def predict(self, observation: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        """As `Policy.predict`: (K, A) float32 in the robot's units, and the same refusals."""
        check_observation(self.contract, observation)
        batch = {name: np.asarray(array)[None] for name, array in observation.items()}
        actions_KA: NDArray[np.float32] = self.predict_batch(batch)[0]
        return actions_KA

    def predict_batch(self, batch: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
        """(B, K, A), from arrays with a batch before them; they are not checked."""
        inputs = {i.name: batch[i.name] for i in self._session.get_inputs()}
        actions_BKA: NDArray[np.float32] = self._session.run(None, inputs)[0]
        return actions_BKA


def _load_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime says of a file that is none: its errors have no base of their own."""
    return (
        native.Fail,
        native.InvalidArgument,
        native.InvalidGraph,
        native.InvalidProtobuf,
        native.NotImplemented,
        native.RuntimeException,
    )


def _providers(device: str) -> list[str]:
    available = onnxruntime.get_available_providers()
    gpu, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    kind = device.partition(":")[0]
    if kind == "cuda" and gpu not in available:
        raise InputError(
            f"this ONNX Runtime has no device {device!r}",
            hint="Use --device cpu, or install onnxruntime-gpu.",
        )
    if kind not in ("auto", "cpu", "cuda"):
        raise InputError(f"there is no device {device!r} here", hint="Use auto or cpu.")
    return [gpu, cpu] if kind != "cpu" and gpu in available else [cpu]


def _metadata(file: Path, properties: Mapping[str, str]) -> OnnxMetadata:
    text = properties.get(METADATA_KEY)
    if text is None:
        raise StoreError(f"{file} is ONNX, but no export of this toolkit", hint=_EXPORT)
    try:
        version = json.loads(text)["format_version"]
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise StoreError(
                f"{file} has format version {version}, this version reads up to {FORMAT_VERSION}",
                hint="Update the toolkit.",
            )
        return OnnxMetadata.model_validate_json(text)
    except (ValueError, KeyError, TypeError) as e:  # pydantic's error is a ValueError
        raise StoreError(f"{file}: its metadata is damaged", hint=_EXPORT) from e


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]
