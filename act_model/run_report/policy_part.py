"""The parts of a run's page that need its policy: errors, ends, predictions, attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from act_model.charts import Line, chart, legend
from act_model.checkpoint import Checkpoint
from act_model.html_page import picture, table
from act_model.joint_groups import action_names, action_units, joint_groups
from act_model.run_report.attention import AttentionMap
from act_model.run_report.metrics import RunMetrics
from act_model.run_report.predictions import Trace
from act_model.validate import EndBin

_JOINTS = 64  # whose curves are drawn at most
_POINTS = 200  # of each of them
_LEAST = 0.02  # rad, m/s or rad/s: what moves less is drawn as resting


def errors(checkpoint: Checkpoint, metrics: RunMetrics) -> Iterator[str]:
    """Mean absolute error by group of joints and horizon, at the best step and the last."""
    if not metrics.best:
        return
    names, units = (
        action_names(checkpoint.contract.action),
        action_units(checkpoint.contract.action),
    )
    groups = joint_groups(checkpoint.contract.action)
    horizons = sorted(
        int(n.removeprefix("l1@")) for n in metrics.best if n.startswith("l1@") and "/" not in n
    )
    yield "<h2>Error on held-out episodes</h2>"
    yield (
        "<p>Mean absolute error in the robot's units, predicted as on the robot, of the first, the "
        "tenth and the last action of a chunk; seam is the jump where a robot would change to a "
        "fresh prediction. Best "
        f"step {int(metrics.best['step'])}, in brackets the last validation, "
        f"{int(metrics.last['step'])}.</p>"
    )
    rows = []
    for group, dims in groups.items():
        unit = ", ".join(dict.fromkeys(units[i] for i in dims))
        keys = [f"l1@{h}/{group}" for h in horizons] + [f"seam/{group}"]
        rows.append([group, unit, *(_both(metrics, key) for key in keys)])
    nth = [f"action {h}" for h in horizons]
    yield table(["joints", "unit", *nth, "seam"], rows)
    rows = [
        [name, unit, _both(metrics, f"l1/{name}")] for name, unit in zip(names, units, strict=True)
    ]
    yield (
        "<details><summary>By joint</summary>"
        + table(["joint", "unit", "whole chunk"], rows)
        + "</details>"
    )
    yield "".join(
        chart(
            f"{group}, {', '.join(dict.fromkeys(units[i] for i in dims))}",
            [
                Line(name=f"action {h}", x=curve.steps, y=curve.values, color=n)
                for n, h in enumerate(horizons)
                for curve in [metrics.val[f"l1@{h}/{group}"]]
            ],
            log=True,
        )
        for group, dims in groups.items()
    )


def ends(bins: Sequence[EndBin], metrics: RunMetrics) -> Iterator[str]:
    """How well the predicted end of an episode is calibrated."""
    if not bins:
        return
    yield "<h2>Does it know when the episode ends?</h2>"
    numbers = [
        f"{name} {number(metrics.best[key])}"
        for key, name in (("is_pad/brier", "Brier score"), ("is_pad/ece", "calibration error"))
        if key in metrics.best
    ]
    yield (
        "<p>Predicted probability that the episode is over, against how often it was: on the "
        f"diagonal it is calibrated. {', '.join(numbers)}.</p>"
    )
    yield chart(
        "share that was over",
        [
            Line(name="calibrated", x=[0, 1], y=[0, 1], color=7),
            Line(name="policy", x=[e.said for e in bins], y=[e.true for e in bins]),
        ],
        across="predicted probability",
        size=(300, 240),
    )
    rows = [[f"{e.said:.3f}", f"{e.true:.3f}", str(e.count)] for e in bins]
    yield table(["predicted", "was over", "predictions"], rows)


def predictions(checkpoint: Checkpoint, traces: Sequence[Trace]) -> Iterator[str]:
    """Joint by joint, what was demonstrated and what the policy says."""
    if not traces:
        return
    contract = checkpoint.contract
    names, units = action_names(contract.action), action_units(contract.action)
    yield "<h2>Predicted against demonstrated</h2>"
    yield (
        f"<p>Whole chunks of {contract.chunk_size} actions, each predicted from the demonstrated "
        "observation at its start and followed to its end.</p>"
    )
    yield legend({"demonstrated": 7, "predicted": 0, "the chunk after": 1})
    for each in traces:
        seen = "training" if each.uid in checkpoint.dataset.train else "held-out"
        yield f"<h3>{seen} episode {each.episode} <small>{escape(each.uid)}</small></h3>"
        yield '<div class="joints">'
        for joint in range(min(len(names), _JOINTS)):
            title = f"{names[joint]}, {units[joint]}: error {number(each.error_A[joint])}"
            lines = _joint(each, joint, contract.rate_hz)
            yield chart(title, lines, across="s", least=_LEAST, size=(300, 150))
        yield "</div>"
    if len(names) > _JOINTS:
        yield f"<p>The first {_JOINTS} of {len(names)} joints.</p>"


def _joint(each: Trace, joint: int, rate_hz: float) -> list[Line]:
    """The demonstration of one joint, and its chunks in two colours by turns."""
    every = max(1, len(each.demonstrated_TA) // _POINTS)
    steps = np.arange(0, len(each.demonstrated_TA), every)
    steps = steps[np.isfinite(each.demonstrated_TA[steps, joint])]
    lines = [
        Line(
            name="",
            x=(steps / rate_hz).tolist(),
            y=each.demonstrated_TA[steps, joint].tolist(),
            color=7,
        )
    ]
    for number, (start, actions_KA) in enumerate(each.chunks):
        taken = np.arange(0, len(actions_KA), every)
        lines.append(
            Line(
                name="",
                x=((start + taken) / rate_hz).tolist(),
                y=actions_KA[taken, joint].tolist(),
                color=number % 2,
            )
        )
    return lines


def attention(
    checkpoint: Checkpoint, moments: Sequence[tuple[int, int, Sequence[AttentionMap]]]
) -> Iterator[str]:
    """The pictures of a few moments, with what the actions look at."""
    if not moments:
        return
    yield "<h2>Where the actions look</h2>"
    yield (
        "<p>Attention of the last decoder layer, mean over its heads and over the actions of the "
        "chunk, in the cells of the backbone's last map: bright is much. The percentage is the "
        "share of all attention that goes to the picture; the rest goes to state and style.</p>"
    )
    yield '<div class="joints">'
    for episode, step, maps in moments:
        when = f"episode {episode}, second {step / checkpoint.contract.rate_hz:.2f}"
        for each in maps:
            what = f"{each.camera}, {when}: {100 * each.share:.0f} %"
            yield (
                f"<figure>{picture(each.image, f'attention on {each.camera}, {when}')}"
                f"<figcaption>{escape(what)}</figcaption></figure>"
            )
    yield "</div>"


def _both(metrics: RunMetrics, key: str) -> str:
    if key not in metrics.best:
        return "-"
    last = metrics.last.get(key) if metrics.last is not metrics.best else None
    beside = f" ({number(last)})" if last is not None else ""
    return f"{number(metrics.best[key])}{beside}"


def number(value: float) -> str:
    """Four digits of it."""
    return f"{value:.4g}"
