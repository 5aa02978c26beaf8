"""What a person sees of a training run while it goes on."""

from __future__ import annotations

import io
import re

import pytest
from act_cli.training_view import Sparkline, TrainingView, duration, training
from rich.console import Console

from act_model.train import StepReport
from act_model.validate import Validation


def report(step: int, loss: float, l1: float | None = None) -> StepReport:
    """A step of 100 ms, 5 ms of which are waiting for data."""
    validation = None
    if l1 is not None:
        validation = Validation(l1=l1, by_action={}, by_horizon={}, starts=1)
    return StepReport(
        step=step, steps=1000, losses={"loss": loss}, grad_norm=1.0, lr=1e-4, lr_backbone=1e-5,
        samples_per_s=80.0, data_wait=0.05,
        seconds={"data": 0.005, "forward": 0.035, "backward": 0.06}, validation=validation,
    )  # fmt: skip


def test_the_view_tells_progress_speed_times_and_the_last_validation() -> None:
    view = TrainingView()
    screen = Console(width=120, file=io.StringIO(), record=True)
    screen.print(view)
    for step in range(1, 401):
        view.add(report(step, loss=1 / step, l1={200: 0.02, 400: 0.03}.get(step)))
    screen.print(view)
    text = screen.export_text()
    assert "before the first step" in text
    assert "400/1000" in text
    assert "10.0 steps/s" in text
    assert "1:00 left" in text
    assert "data 5%  forward 35%  backward 60%" in text
    assert "L1 0.03 at step 400, best of this sitting 0.02" in text
    assert re.search(r"loss +█[▁▂]+  0\.0025", text)
    assert re.search(r"held out +▁█  ", text)


def test_a_sparkline_of_any_length_has_at_most_forty_characters() -> None:
    line = Sparkline()
    for n in range(10_000):
        line.add(n)
    assert 20 <= len(str(line)) <= 40
    assert str(line)[0] == "▁"
    assert str(line)[-1] == "█"
    assert list(str(line)) == sorted(str(line))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3723, "1:02:03")]
)
def test_durations_read_as_clocks(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_only_a_terminal_is_drawn_on_and_validations_stay_on_both(terminal: bool) -> None:
    file = io.StringIO()
    screen = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    with training(screen) as on_step:
        on_step(report(1, 2.0))
        on_step(report(2, 1.0, l1=0.5))
    text = file.getvalue()
    assert "step 2: loss 1.0000  80 samples/s, held out L1 0.50000" in text
    assert ("\x1b[" in text) == terminal
    assert ("1/1000" in text) == terminal
