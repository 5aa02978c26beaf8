"""A training run on a terminal: how far, how fast, where the time goes, how good."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from act_model.train import StepReport

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 40  # of the sparkline, in characters
_EVERY_S = 0.25  # between two pictures
_RECENT = 200  # steps that speed and times are taken over


class TrainingView:
    """What the block on the terminal says. Feed it every step."""

    def __init__(self) -> None:
        self._last: StepReport | None = None
        self._losses = Sparkline()
        self._errors = Sparkline()
        self._recent: deque[dict[str, float]] = deque(maxlen=_RECENT)
        self._validated: tuple[int, float, float] | None = None  # step, l1, the best l1

    def add(self, report: StepReport) -> None:
        """One more step."""
        self._last = report
        self._losses.add(report.losses["loss"])
        self._recent.append(dict(report.seconds))
        if report.validation is not None:
            l1 = report.validation.l1
            best = l1 if self._validated is None else min(l1, self._validated[2])
            self._validated = (report.step, l1, best)
            self._errors.add(l1)

    def __rich__(self) -> Group | Text:
        if self._last is None:
            return Text("train: before the first step", style="dim")
        lines = Table.grid(padding=(0, 2))
        lines.add_row(Text("train", style="bold"), self._progress(self._last))
        lines.add_row("loss", Text(f"{self._losses}  {self._last.losses['loss']:.4g}"))
        lines.add_row("time", self._times())
        if self._validated is not None:
            step, l1, best = self._validated
            said = f"{self._errors}  L1 {l1:.4g} at step {step}, best of this sitting {best:.4g}"
            lines.add_row("held out", Text(said))
        return Group(lines)

    def _progress(self, last: StepReport) -> Table:
        per_step = sum(sum(seconds.values()) for seconds in self._recent) / len(self._recent)
        row = Table.grid(padding=(0, 2))
        row.add_row(
            ProgressBar(total=last.steps, completed=last.step, width=_WIDTH),
            f"{last.step}/{last.steps}",
            f"{1 / per_step:.1f} steps/s" if per_step else "",
            f"{duration((last.steps - last.step) * per_step)} left",
        )
        return row

    def _times(self) -> Text:
        """Share of each part of the recent steps."""
        sums: dict[str, float] = {}
        for seconds in self._recent:
            for name, value in seconds.items():
                sums[name] = sums.get(name, 0.0) + value
        spent = sum(sums.values()) or 1.0
        return Text("  ".join(f"{name} {100 * value / spent:.0f}%" for name, value in sums.items()))


class Sparkline:
    """A number over all of a run in a row of characters: means over neighbours."""

    def __init__(self) -> None:
        self._every = 1
        self._sums: list[tuple[float, int]] = []

    def add(self, value: float) -> None:
        """One more value."""
        if self._sums and self._sums[-1][1] < self._every:
            total, count = self._sums[-1]
            self._sums[-1] = (total + value, count + 1)
            return
        if len(self._sums) == _WIDTH:
            pairs = zip(self._sums[::2], self._sums[1::2], strict=True)
            self._sums = [(a + b, n + m) for (a, n), (b, m) in pairs]
            self._every *= 2
        self._sums.append((value, 1))

    def __str__(self) -> str:
        means = [total / count for total, count in self._sums]
        low, high = min(means), max(means)
        top = len(_BARS) - 1
        return "".join(
            _BARS[round(top * (mean - low) / (high - low)) if high > low else 0] for mean in means
        )


def duration(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


@contextmanager
def training(console: Console) -> Iterator[Callable[[StepReport], None]]:
    """Show each step that the block reports: live on a terminal, else a line per validation."""
    view, shown = TrainingView(), 0.0
    # Without a thread of its own: the view would change while it is drawn.
    live = Live(view, console=console, auto_refresh=False, transient=True)

    def on_step(report: StepReport) -> None:
        nonlocal shown
        view.add(report)
        if report.validation is not None:
            loss = f"loss {report.losses['loss']:.4f}  {report.samples_per_s:.0f} samples/s"
            said = f"step {report.step}: {loss}, held out L1 {report.validation.l1:.5f}"
            console.print(Text(said))
        if console.is_terminal and time.monotonic() - shown > _EVERY_S:
            live.refresh()
            shown = time.monotonic()

    with live if console.is_terminal else nullcontext():
        yield on_step
