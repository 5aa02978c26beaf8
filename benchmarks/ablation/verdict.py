"""What the results of an ablation say: means, differences seed by seed, and the defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.ablation.rows import CHOICES, MENDED, ROWS

# Student's t, 97.5 %, by degrees of freedom.
T975 = (0.0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
MEASURES = ("success", "l1", "collided", "not_there", "wrong_side", "step", "train_s")

Result = Mapping[str, Any]


def table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Means over the seeds; differences to `MENDED` by seed; "_pm" is half the 95 % interval."""
    rows = []
    for name in ROWS:
        mine = _by_seed(results, name)
        if not mine:
            continue
        row: dict[str, Any] = {"name": name, "seeds": len(mine)}
        for what in MEASURES:
            row[what], row[f"{what}_pm"] = _interval(line[what] for line in mine.values())
        for what in ("success", "l1"):
            row[f"{what}_change"], row[f"{what}_change_pm"] = _compared(results, name, MENDED, what)
        rows.append(row)
    return rows


def choices(results: Sequence[Result]) -> dict[str, str]:
    """Of every default: the cheapest row that is not worse than the best one beyond the interval.

    That interval is the 95 % one of their difference in success, seed by seed.
    """
    found = {}
    for what, names in CHOICES.items():
        success = {
            name: float(np.mean([line["success"] for line in mine.values()]))
            for name in names
            if (mine := _by_seed(results, name))
        }
        if len(success) < len(names):
            continue
        best = max(names, key=lambda name: success[name])
        for name in names:
            change, within = _compared(results, name, best, "success")
            if change + within >= 0:
                found[what] = name
                break
    return found


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    print(
        f"{'row':40}{'seeds':>6}{'success %':>13}{'change':>13}{'error x1000':>15}{'change':>15}"
        f"{'hit post':>10}{'not there':>11}{'wrong side':>12}{'s':>6}"
    )
    for row in rows:
        print(
            f"{row['name']:40}{row['seeds']:6}"
            f"{100 * row['success']:8.1f} ±{100 * row['success_pm']:4.1f}"
            f"{100 * row['success_change']:+8.1f} ±{100 * row['success_change_pm']:4.1f}"
            f"{1e3 * row['l1']:9.2f} ±{1e3 * row['l1_pm']:5.2f}"
            f"{1e3 * row['l1_change']:+9.2f} ±{1e3 * row['l1_change_pm']:5.2f}"
            f"{row['collided']:10.0%}{row['not_there']:11.0%}{row['wrong_side']:12.0%}"
            f"{row['train_s']:6.0f}"
        )


def _compared(results: Sequence[Result], name: str, other: str, what: str) -> tuple[float, float]:
    mine, theirs = _by_seed(results, name), _by_seed(results, other)
    both = sorted(mine.keys() & theirs.keys())
    return _interval(mine[seed][what] - theirs[seed][what] for seed in both)


def _by_seed(results: Sequence[Result], name: str) -> dict[int, Result]:
    return {line["seed"]: line for line in results if line["row"] == name}


def _interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval by Student; 0 where a single value has none."""
    numbers = np.array(list(values), np.float64)
    if len(numbers) < 2:
        return float(numbers.mean()), 0.0
    spread = float(np.std(numbers, ddof=1)) / len(numbers) ** 0.5
    return float(numbers.mean()), T975[min(len(numbers) - 1, len(T975) - 1)] * spread
