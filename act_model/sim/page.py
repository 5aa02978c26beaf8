"""An evaluation as one HTML page: rates with their intervals, a map of the starts, the videos."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from act_model import html_page
from act_model.sim.records import Interval, SimCondition, SimEvaluation, SimRollout
from act_model.sim.tasks import Task

_LEFT, _RIGHT, _NEAR, _FAR = -0.3, 0.3, 0.35, 0.65  # metres of the table that the map shows
_WIDE, _HIGH = 480, 240
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem; text-align: right; }
td:first-child, th:first-child { text-align: left; } tr + tr td { border-top: 1px solid #ddd; }
.bar { fill: #2b7; } .whisker { stroke: #222; } .good { fill: #2b7; } .bad { fill: #d43; }
figure { display: inline-block; margin: .3rem; } figcaption { font-size: 13px; color: #555; }
"""


def write_page(folder: Path, task: Task, report: SimEvaluation) -> Path:
    """Write `index.html` into `folder`, which holds the videos; it needs nothing from elsewhere.

    Raises:
        StoreError: The disk is full or failing.
    """
    title = f"{task.name}: {report.checkpoint}"
    html_page.write_page(folder / "index.html", title, _body(title, task, report), style=_STYLE)
    return folder / "index.html"


def _body(title: str, task: Task, report: SimEvaluation) -> Iterator[str]:
    yield f"<h1>{escape(title)}</h1>"
    yield (
        f"<p>Step {report.step}, {len(report.seeds)} episodes on seeds {report.seeds[0]} to "
        f"{report.seeds[-1]}, sensors: {escape(report.realism)}. "
        f"Bars are shares of episodes, lines 95 % intervals (Wilson).</p>"
    )
    for note in report.notes:
        yield f"<p>{escape(note)}</p>"
    for condition in report.conditions:
        yield from _condition(task, condition)
    made = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    yield f"<p>{escape(made)}</p>"


def _condition(task: Task, condition: SimCondition) -> Iterator[str]:
    yield f"<h2>{escape(condition.chunks)}, a prediction every {condition.execute} ticks</h2>"
    yield "<table><tr><th>stage</th><th>episodes</th><th>share</th><th></th></tr>"
    for name, share in (*condition.rates.stages.items(), ("held at the end", condition.rates.held)):
        yield (
            f"<tr><td>{escape(name)}</td><td>{share.count}/{share.of}</td>"
            f"<td>{100 * share.share:.0f} %</td><td>{_bar(share)}</td></tr>"
        )
    yield "</table>"
    if condition.inference_p50_ms is not None:
        yield (
            f"<p>A prediction takes {condition.inference_p50_ms:.1f} ms (median), "
            f"{condition.inference_p95_ms or 0:.1f} ms (p95).</p>"
        )
    yield f"<p>Where the {escape(' and the '.join(task.objects))} lay, from above: green succeeded."
    yield f"</p>{_map(condition)}"
    for rollout in condition.rollouts:
        if rollout.video is not None:
            yield _video(task, rollout)


def _bar(share: Interval) -> str:
    at = [200 * value for value in (share.share, share.low, share.high)]
    return (
        f'<svg width="202" height="14"><rect class="bar" y="2" height="10" width="{at[0]:.1f}"/>'
        f'<line class="whisker" x1="{at[1]:.1f}" x2="{at[2]:.1f}" y1="7" y2="7"/></svg>'
    )


def _map(condition: SimCondition) -> str:
    dots = []
    for rollout in condition.rollouts:
        good = rollout.trial.reward == 4
        what = f"seed {rollout.trial.seed}, stage {rollout.trial.reward}"
        for x, y in rollout.start:
            at_x = _WIDE * (x - _LEFT) / (_RIGHT - _LEFT)
            at_y = _HIGH * (1 - (y - _NEAR) / (_FAR - _NEAR))
            dots.append(
                f'<circle class="{"good" if good else "bad"}" cx="{at_x:.1f}" cy="{at_y:.1f}" '
                f'r="4"><title>{what}</title></circle>'
            )
    return f'<svg width="{_WIDE}" height="{_HIGH}" style="background:#eee">{"".join(dots)}</svg>'


def _video(task: Task, rollout: SimRollout) -> str:
    reached = ("nothing", *task.stages)[rollout.trial.reward]
    caption = f"seed {rollout.trial.seed}: {reached}"
    return (
        f'<figure><video src="{escape(rollout.video or "")}" width="320" controls muted loop>'
        f"</video><figcaption>{escape(caption)}</figcaption></figure>"
    )
