"""LeRobot datasets, v3.0 out and in and v2.1 in, with pyarrow and PyAV and without lerobot."""

from __future__ import annotations

from importlib.util import find_spec

from act_data.errors import InputError


def require() -> None:
    """See that the two libraries are there.

    Raises:
        InputError: One is missing; says how to get it.
    """
    missing = [name for name in ("pyarrow", "av") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"LeRobot datasets need {' and '.join(missing)}",
            hint="pip install 'act-toolkit[lerobot]'",
        )
