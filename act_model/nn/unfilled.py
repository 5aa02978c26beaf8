"""Networks that are built to be filled: nothing is drawn for weights that will be replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch.overrides import TorchFunctionMode

_UNFILLED: ContextVar[bool] = ContextVar("unfilled", default=False)


@contextmanager
def unfilled() -> Iterator[None]:
    """Within it, parameters of new networks are whatever memory holds; load a state dict next.

    Tensors that are not in a state dict, as position codes, are computed as always.
    """
    before = _UNFILLED.set(True)
    try:
        with _NoDraws():
            yield
    finally:
        _UNFILLED.reset(before)


def to_be_filled() -> bool:
    """Whether what is built now is filled from a state dict."""
    return _UNFILLED.get()


class _NoDraws(TorchFunctionMode):
    """The functions of `torch.nn.init` leave their tensor as it is."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)
