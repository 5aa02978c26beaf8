"""Steps that wait for what comes after them: in memory as long as they are few, else in a file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from act_data.errors import StoreError
from act_data.types import EncodedImage, StepType, Timestep, Value

MEMORY_BYTES = 32 * 2**20


class Waiting:
    """A queue of steps that is emptied as a whole. Holds at most 32 MiB in memory.

    What is more lies in a file without a name: nothing stays, however the process ends.
    """

    def __init__(self, folder: Path) -> None:
        """Args: folder: Where the file lies; on the disk of the dataset, not in memory."""
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115
            max_size=MEMORY_BYTES, dir=str(folder)
        )
        self._count = 0

    def put(self, step: Timestep) -> None:
        """Append a step.

        Raises:
            StoreError: There is no room for it.
        """
        values: list[tuple[str, Value]] = [
            ("skew_ns", step.skew_ns),
            ("reason", step.reason),
            ("index", step.index),
            *step.observation.items(),
            *step.action.items(),
        ]
        head = {
            "tick_ns": step.tick_ns,
            "step_type": int(step.step_type),
            "observations": len(step.observation),
            "values": [(name, *_form(value)) for name, value in values],
        }
        text = json.dumps(head).encode()
        try:
            self._file.write(len(text).to_bytes(8, "little") + text)
            for _, value in values:
                self._file.write(_bytes(value))
        except OSError as e:
            raise StoreError(
                f"cannot keep idle steps for later: {e.strerror or e}",
                hint="Make room on the disk, or ingest without --trim-idle.",
            ) from e
        self._count += 1

    def taken(self) -> Iterator[Timestep]:
        """All steps in order; the queue is empty afterwards."""
        self._file.seek(0)
        for _ in range(self._count):
            yield self._next()
        self.clear()

    def clear(self) -> None:
        """Forget all steps."""
        self._count = 0
        self._file.seek(0)
        self._file.truncate()

    def close(self) -> None:
        """Forget all steps, and take no more."""
        self._file.close()

    def _next(self) -> Timestep:
        head = json.loads(self._file.read(int.from_bytes(self._file.read(8), "little")))
        values = [
            (name, self._value(dtype, tuple(shape), size))
            for name, dtype, shape, size in head["values"]
        ]
        (_, skew_ns), (_, reason), (_, index), *arrays = values
        observations = head["observations"]
        return Timestep(
            step_type=StepType(head["step_type"]),
            tick_ns=head["tick_ns"],
            observation=dict(arrays[:observations]),
            action=dict(arrays[observations:]),
            skew_ns=skew_ns,
            reason=reason,
            index=index,
        )

    def _value(self, dtype: str, shape: tuple[int, ...], size: int) -> Any:
        data = self._file.read(size)
        if not dtype:
            return EncodedImage(data=data, shape=shape)
        return np.frombuffer(data, dtype).reshape(shape)


def _form(value: Value) -> tuple[str, tuple[int, ...], int]:
    """Element type ("" for a picture file), shape and bytes."""
    if isinstance(value, EncodedImage):
        return "", value.shape, len(value.data)
    return value.dtype.str, value.shape, value.nbytes


def _bytes(value: Value) -> bytes | memoryview:
    if isinstance(value, EncodedImage):
        return value.data
    contiguous: NDArray[Any] = np.ascontiguousarray(value)
    return contiguous.tobytes() if contiguous.ndim == 0 else contiguous.data.cast("B")
