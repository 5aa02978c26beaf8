"""Line charts and bars as SVG, drawn by the style of the page that they stand in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 18, 8, 22  # pixels around the lines
COLORS = 8  # classes c0 to c7


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart.

    Attributes:
        name: For the legend; "" leaves it out.
        x: Ascending; `y` as many, finite.
        color: Number of its class, from 0.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int = 0


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    unit: str = "",
    across: str = "step",
    log: bool = False,
    least: float = 0.0,
    size: tuple[int, int] = (460, 210),
) -> str:
    """A figure with axes and a legend; "" where no line has a point.

    Args:
        title: Text above it.
        unit: Of y.
        across: What x is.
        log: y is logarithmic; values that are not above 0 are left out.
        least: Of y, the smallest range that fills the chart: less is noise.
        size: (width, height) in pixels.
    """
    kept = [
        (line, [(x, y) for x, y in zip(line.x, line.y, strict=True) if not log or y > 0])
        for line in lines
    ]
    points = [point for _, some in kept for point in some]
    if not points:
        return ""
    width, height = size
    x_low, x_high = _range([x for x, _ in points], log=False)
    y_low, y_high = _range([y for _, y in points], log=log)
    spare = max(0.0, least - (y_high - y_low)) / 2
    y_low, y_high = y_low - spare, y_high + spare
    x_of = _scale(x_low, x_high, _LEFT, width - _RIGHT, log=False)
    y_of = _scale(y_low, y_high, height - _BOTTOM, _TOP, log=log)
    parts = []
    for value in _ticks(y_low, y_high, log=log):
        at = f"{y_of(value):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="y" x="{_LEFT - 6}" y="{at}" dy=".32em">{_text(value)}</text>')
    for value in _ticks(x_low, x_high, log=False):
        parts.append(
            f'<text class="x" x="{x_of(value):.1f}" y="{height - 6}">{_text(value)}</text>'
        )
    for line, some in kept:
        pixels = [(f"{x_of(x):.1f}", f"{y_of(y):.1f}") for x, y in some]
        color = f"c{line.color % COLORS}"
        if len(pixels) == 1:
            (x_at, y_at), *_ = pixels
            parts.append(f'<circle class="{color}" cx="{x_at}" cy="{y_at}" r="2.5"/>')
        elif pixels:
            joined = " ".join(f"{x_at},{y_at}" for x_at, y_at in pixels)
            parts.append(f'<polyline class="{color}" points="{joined}"/>')
    names = {line.name: line.color for line, some in kept if line.name and some}
    what = f"{title}{f', {unit}' if unit else ''}"
    return (
        f"<figure><figcaption>{escape(what)} <small>by {escape(across)}</small></figcaption>"
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f"<title>{escape(what)}</title>{''.join(parts)}</svg>{legend(names)}</figure>"
    )


def legend(names: Mapping[str, int]) -> str:
    """Names beside their colours; nothing for a single one."""
    if len(names) < 2:
        return ""
    keys = "".join(
        f'<span><i class="c{color % COLORS}"></i>{escape(name)}</span>'
        for name, color in names.items()
    )
    return f'<div class="legend">{keys}</div>'


def stacked_bar(shares: Mapping[str, float], *, width: int = 940) -> str:
    """One bar cut into `shares`, which add up to 1 or less, and their legend."""
    parts, at = [], 0.0
    for number, share in enumerate(shares.values()):
        parts.append(
            f'<rect class="c{number % COLORS}" x="{at:.1f}" width="{width * share:.1f}" y="0" '
            'height="22"/>'
        )
        at += width * share
    names = {
        f"{name} {100 * share:.1f} %": number for number, (name, share) in enumerate(shares.items())
    }
    return (
        f'<figure><svg viewBox="0 0 {width} 22" width="{width}" height="22" role="img">'
        f"<title>Shares</title>{''.join(parts)}</svg>{legend(names)}</figure>"
    )


def _range(values: Sequence[float], *, log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low < high:
        return low, high
    return (low / 2, high * 2) if log else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)


def _scale(
    low: float, high: float, first: float, last: float, *, log: bool
) -> Callable[[float], float]:
    """From a value to a pixel: `low` is at `first`, `high` at `last`."""
    at = math.log if log else float
    return lambda value: first + (at(value) - at(low)) / (at(high) - at(low)) * (last - first)


def _ticks(low: float, high: float, *, log: bool) -> list[float]:
    """Round numbers between `low` and `high`, a handful."""
    if log and high / low > 10:
        first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
        every = max(1, (last - first) // 5 + 1)
        return [10.0**n for n in range(first, last + 1, every)]
    step = 10.0 ** math.floor(math.log10((high - low) / 3))
    step *= max(n for n in (1, 2, 5) if n * step <= (high - low) / 3)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _text(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e+")
    return f"{value:.6f}".rstrip("0").rstrip(".") or "0"
