"""A process of its own: a pickled state dict on stdin becomes safetensors on stdout.

Started by its path, so that it shares nothing with the program that wants the weights. Torch reads
weights only; and behind that, before the first byte is read, the process gives up everything that
reading does not need: new files, sockets, programs and imports, more memory or time than the file
is worth.
"""

from __future__ import annotations

import io
import os
import re
import resource
import sys
import warnings
from typing import IO, Any, NoReturn

import safetensors.torch
import torch
from torch import Tensor

REFUSED = 3  # exit code; the reason is on stderr
SECONDS = 120  # of CPU
_SPARE = 512 << 20
_SWELL = 2  # as many bytes as the file may its tensors have
# All that Python tells of while a plain state dict becomes safetensors.
_HARMLESS = "object.__setattr__"


def confine(memory: int, written: int, seconds: int = SECONDS) -> None:
    """Give up what reading does not need, for good.

    Args:
        memory: Bytes that may be taken from here on.
        written: Bytes that a file may grow to: that on stdout.
        seconds: Of CPU.
    """
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no pathlib in here
        taken = int(file.read().split()[0]) * resource.getpagesize()
    for what, limit in (
        (resource.RLIMIT_AS, taken + memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, written),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),  # no file, socket or pipe beyond those that are open
    ):
        resource.setrlimit(what, (limit, limit))
    sys.addaudithook(_watch)


def _watch(event: str, _: tuple[Any, ...]) -> None:
    if event != _HARMLESS:
        raise PermissionError(f"{event} is not allowed here")


def state_dict(file: IO[bytes], size: int) -> dict[str, Tensor]:
    """The tensors in a checkpoint of `size` bytes, by name."""
    if file.read(4) != b"PK\x03\x04":
        refuse("it is no zip archive, which torch writes since 1.6")
    file.seek(0)
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict) or not loaded:
        refuse(f"it holds a {type(loaded).__name__} and no state dict")
    total = 0
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            refuse(f"{str(name)[:80]!r} is a {type(tensor).__name__} and no tensor")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            refuse(f"{name[:80]!r} is no plain tensor")
        total += tensor.numel() * tensor.element_size()
    if total > _SWELL * size:  # views of a few bytes may have any size; tied weights count twice
        refuse(f"its tensors have {total} bytes, the file {size}")
    return {name: tensor.detach().clone().contiguous() for name, tensor in loaded.items()}


def refuse(why: str) -> NoReturn:
    """End here."""
    sys.stderr.write(f"{why}\n")
    sys.stderr.flush()
    os._exit(REFUSED)


def rehearse() -> None:
    """Load and import everything that reading uses, while that is allowed."""
    small = io.BytesIO()
    torch.save({"a": torch.zeros(2), "b": torch.zeros(2, dtype=torch.long)}, small)
    small.seek(0)
    size = len(small.getvalue())
    safetensors.torch.save(state_dict(small, size))


def read() -> NoReturn:
    """From stdin to stdout, confined."""
    size = os.fstat(0).st_size
    confine(3 * _SWELL * size + _SPARE, _SWELL * size + (1 << 20))
    try:
        tensors = state_dict(sys.stdin.buffer, size)
        data = safetensors.torch.save(tensors)
    except BaseException as e:  # whatever it is, it ends here
        refuse(_said(e))
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    os._exit(0)  # on the usual way out Python would do more than is allowed here


def _said(error: BaseException) -> str:
    """What an error says, without torch's advice to read the file in a more trusting way."""
    text = " ".join(str(error).split())
    if text.startswith("Weights only load failed"):
        named = re.search(r"GLOBAL \S+", text)
        return f"it is more than weights: {named[0] if named else text[-200:]}"
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return "it takes more memory than its size allows"
    return f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rehearse()
    read()
