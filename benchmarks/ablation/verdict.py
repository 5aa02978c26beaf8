"""What the results of an ablation say: means, differences seed by seed, and the defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.ablation.rows import CHOICES, ROWS

# Student's t, 97.5 %, by degrees of freedom.
# fmt: off
T975 = (
    0.0, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045,
)
# fmt: on
MEASURES = ("success", "l1", "collided", "not_there", "wrong_side", "step", "train_s")

Result = Mapping[str, Any]


def table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Means over the seeds; differences by seed to what a row is `against`, None where it is not
    there; "_pm" is half the 95 % interval."""
    rows = []
    for name in ROWS:
        mine = _by_seed(results, name)
        if not mine:
            continue
        row: dict[str, Any] = {"name": name, "seeds": len(mine)}
        for what in MEASURES:
            row[what], row[f"{what}_pm"] = _interval(line[what] for line in mine.values())
        row["worst_success"] = min(line["success"] for line in mine.values())
        for what in ("success", "l1"):
            change = _compared(results, name, ROWS[name].against, what)
            row[f"{what}_change"], row[f"{what}_change_pm"] = change or (None, None)
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
            change = _compared(results, name, best, "success")
            if change and sum(change) >= 0:
                found[what] = name
                break
    return found


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    print(
        f"{'row':40}{'seeds':>6}{'success %':>13}{'worst':>6}{'change':>13}{'error x1000':>15}"
        f"{'change':>15}{'hit post':>10}{'not there':>11}{'wrong side':>12}{'s':>6}"
    )
    for row in rows:
        print(
            f"{row['name']:40}{row['seeds']:6}"
            f"{100 * row['success']:8.1f} ±{100 * row['success_pm']:4.1f}"
            f"{100 * row['worst_success']:6.0f}{_change(row, 'success', 100, 1):>13}"
            f"{1e3 * row['l1']:9.2f} ±{1e3 * row['l1_pm']:5.2f}{_change(row, 'l1', 1e3, 2):>15}"
            f"{row['collided']:10.0%}{row['not_there']:11.0%}{row['wrong_side']:12.0%}"
            f"{row['train_s']:6.0f}"
        )


def _change(row: Mapping[str, Any], what: str, unit: float, digits: int) -> str:
    change, within = row[f"{what}_change"], row[f"{what}_change_pm"]
    if change is None:
        return "-"
    return f"{unit * change:+.{digits}f} ±{unit * within:{digits + 3}.{digits}f}"


def _compared(
    results: Sequence[Result], name: str, other: str, what: str
) -> tuple[float, float] | None:
    """The mean difference and half of its interval; None if no seed has both."""
    mine, theirs = _by_seed(results, name), _by_seed(results, other)
    both = sorted(mine.keys() & theirs.keys())
    if not both:
        return None
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
