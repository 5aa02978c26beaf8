"""The numbers of a run for TensorBoard: the door to its event files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from act_data.errors import InputError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class EventFile:
    """A new event file in `folder`, from the first number on. Close it, or leave its `with` block.

    Raises:
        InputError: The library that writes them is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as e:
            raise InputError(
                f"event files need tensorboard, which cannot be imported: {e}",
                hint="Install it: pip install 'act-toolkit[tensorboard]'.",
            ) from None
        self._folder = folder
        self._kind = SummaryWriter
        self._writer: SummaryWriter | None = None

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """The numbers of one step. What earlier files of the folder say of later steps is void."""
        if self._writer is None:
            self._writer = self._kind(str(self._folder), purge_step=step)
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still on its way."""
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
