"""What an exported file says of itself, and what an export reports."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from act_data.records import Record
from act_model.config import Contract

FORMAT_VERSION = 1
METADATA_KEY = "act"  # of the file's metadata; holds an OnnxMetadata as JSON

BOUNDARY = (
    "Inputs are what the robot delivers, outputs what it takes: state in the contract's units, "
    "pictures uint8 RGB (batch, height, width, 3) of the contract's size, depth uint16 "
    "millimetres. Resizing and normalisation, of pictures, state and actions, are in the graph."
)


class OnnxMetadata(Record):
    """What stands in the metadata of an exported file.

    Attributes:
        contract_digest: `Contract.digest()` of `contract`.
        weights_sha256: Of the model.safetensors that the file was made from.
        boundary: Where the graph begins and ends, in words.
    """

    format: Literal["act-onnx"] = "act-onnx"
    format_version: int = FORMAT_VERSION
    contract: Contract
    contract_digest: str
    weights_sha256: str
    step: int
    boundary: str = BOUNDARY


class ExportReport(Record):
    """One export.

    Attributes:
        inputs: Names in the file, in order.
        parity: Largest difference from torch over the checked batches, in the network's normalised
            units; None when it was not checked.
        parity_units: The same in the robot's units.
        checked: Observations that both predicted from.
    """

    checkpoint: str
    file: str
    bytes: int
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    contract_digest: str
    parity: float | None = None
    parity_units: float | None = None
    checked: int = Field(0, ge=0)
