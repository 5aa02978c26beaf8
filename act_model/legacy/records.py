"""What an import says."""

from __future__ import annotations

from typing import Literal

from act_data.records import Record

Dialect = Literal["lerobot", "act", "act-plus-plus", "cobot_magic"]


class ImportReport(Record):
    """What came out of a checkpoint of another program.

    Attributes:
        dialect: Whose layout it has.
        source: The file with the weights.
        checkpoint: The folder written.
        weights: Numbers in the network now.
        left_out: Tensors of the source that no prediction depends on.
        fresh: Weights that the source lacks and no prediction depends on, drawn at random.
        cameras: In the order in which the network sees them.
        decoder_layers: That the network has now.
    """

    dialect: Dialect
    source: str
    checkpoint: str
    weights: int
    left_out: tuple[str, ...]
    fresh: tuple[str, ...]
    cameras: tuple[str, ...]
    decoder_layers: int
