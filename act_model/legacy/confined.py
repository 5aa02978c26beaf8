"""Pickled weights, read where a pickle can do no harm: see `unpickle`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from act_data.errors import InputError, NotFoundError, StoreError

_PROGRAM = Path(__file__).with_name("unpickle.py")
_MAX_BYTES = 2 << 30  # the published network has 0.34 GB
_SECONDS = 300  # from start to end; CPU time has a limit of its own
_SHOWN = 300


def read_weights(path: Path, *, allow_pickle: bool) -> dict[str, Tensor]:
    """The tensors of a checkpoint that torch pickled, by name.

    Raises:
        InputError: `allow_pickle` is not set, or the file is larger than such a network.
        NotFoundError: There is no such file.
        StoreError: It is damaged, or does anything else than hold tensors.
    """
    try:
        size = path.stat().st_size
    except OSError as e:
        raise NotFoundError(
            f"{path} cannot be read: {e.strerror}", hint="Get the whole checkpoint."
        ) from e
    if not allow_pickle:
        raise InputError(
            f"{path} is a pickle, which can hold a program",
            hint="If you know who made it: --allow-pickle reads its weights only, in a process "
            "that can open, start and send nothing.",
        )
    if size > _MAX_BYTES:
        raise InputError(
            f"{path} has {size} bytes, up to {_MAX_BYTES} are read",
            hint="Save the state dict of the policy alone.",
        )
    with TemporaryDirectory() as scratch:
        tensors = Path(scratch) / "tensors"
        said = Path(scratch) / "said"
        with path.open("rb") as file, tensors.open("wb") as out, said.open("wb") as err:
            try:
                ended = subprocess.run(
                    [sys.executable, "-I", _PROGRAM],
                    stdin=file,
                    stdout=out,
                    stderr=err,
                    env={},
                    cwd=scratch,
                    timeout=_SECONDS,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                ended = -1
        if ended:
            raise StoreError(
                f"{path} was not read: {_reason(said, ended)}",
                hint="Only state dicts are read, as torch.save(policy.state_dict(), path) makes "
                "them. Do not open this file with other programs unless you trust it.",
            )
        try:
            return load_file(tensors)
        except SafetensorError as e:
            raise StoreError(f"{path} was not read: {e}", hint="Get it again.") from e


def _reason(said: Path, ended: int) -> str:
    """The last thing that the process said, without what a terminal would obey."""
    with said.open("rb") as file:
        text = file.read(1 << 16).decode("utf-8", "replace").strip()
    last = "".join(c for c in text.rpartition("\n")[2] if c.isprintable())[:_SHOWN]
    return last if ended > 0 and last else f"its process was ended by signal {-ended}; {last}"
