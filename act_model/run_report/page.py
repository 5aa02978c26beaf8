"""The page of a run: where it stands, its curves, its times, and what follows from its policy."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from html import escape

from act_model.charts import Line, chart, stacked_bar
from act_model.run_report.content import Content
from act_model.run_report.metrics import Curves, RunMetrics
from act_model.run_report.origin import origin
from act_model.run_report.policy_part import attention, ends, errors, number, predictions

# What a line of the metrics holds besides the parts of the loss.
_NO_LOSS = ("loss", "kl", "active_latents", "grad_norm", "lr", "lr_backbone", "samples_per_s",
            "data_wait")  # fmt: skip
_MOST_PARTS = 12  # of the loss that are drawn


def body(content: Content) -> Iterator[str]:
    """The HTML of the page, piece by piece."""
    yield from _head(content)
    yield from _curves(content.metrics)
    yield from _times(content)
    if content.checkpoint is not None:
        yield from errors(content.checkpoint, content.metrics)
        yield from ends(content.ends, content.metrics)
        yield from predictions(content.checkpoint, content.traces)
        yield from attention(content.checkpoint, content.attention)
        yield from origin(content.checkpoint, content.recordings)


def _head(content: Content) -> Iterator[str]:
    metrics, checkpoint = content.metrics, content.checkpoint
    kind = {"finished": " finished", "in progress": " progress"}.get(content.state, "")
    yield f"<h1>{escape(content.title)}</h1>"
    of = f" of {checkpoint.train.steps}" if checkpoint is not None else ""
    when = ""
    if metrics.time:
        last = datetime.datetime.fromtimestamp(metrics.time, datetime.UTC)
        when = f", the last at {last:%Y-%m-%d %H:%M:%S} UTC"
    yield (
        f'<p><span class="state{kind}">{content.state}</span> '
        f'<span class="dim">step {metrics.step}{of}{when}</span></p>'
    )
    cards = {}
    if metrics.best:
        cards["best held-out L1"] = number(metrics.best["l1"])
        cards["at step"] = str(int(metrics.best["step"]))
    if metrics.timed:
        spent = sum(metrics.seconds.values())
        cards["per step"] = f"{1000 * spent / metrics.timed:.1f} ms"
        cards["training"] = _duration(spent)
        cards["waiting for data"] = f"{100 * content.shares.get('data', 0):.1f} %"
    if checkpoint is not None:
        cards["policy"] = checkpoint.model.policy
    boxes = (f"<div><b>{escape(v)}</b><small>{escape(k)}</small></div>" for k, v in cards.items())
    yield f'<div class="cards">{"".join(boxes)}</div>'
    if content.notes:
        yield "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in content.notes) + "</ul>"


def _curves(metrics: RunMetrics) -> Iterator[str]:
    train = metrics.train
    if not train.names:
        yield "<p>No step has been taken yet.</p>"
        return
    yield "<h2>Curves</h2>"
    parts = [n for n in train.names if n not in _NO_LOSS and not n.startswith("s/")]
    parts = parts[:_MOST_PARTS] if len(parts) > 1 else []  # one alone is the loss itself
    yield chart("training loss, normalised", _lines(train, ["loss", *parts]), log=True)
    horizons = [n for n in metrics.val.names if n.startswith("l1@") and "/" not in n]
    yield chart("held-out error, robot's units", _lines(metrics.val, ["l1", *horizons]), log=True)
    yield chart("KL of the style, nats", _lines(train, ["kl"], zero=True))
    yield chart("active dimensions of the style", _lines(train, ["active_latents"], zero=True))
    yield chart("norm of the gradient", _lines(train, ["grad_norm"]), log=True)
    yield chart("learning rate", _lines(train, ["lr", "lr_backbone"]), log=True)


def _times(content: Content) -> Iterator[str]:
    if not content.shares:
        return
    yield "<h2>Where the time goes</h2>"
    yield stacked_bar(content.shares)
    yield chart("throughput, samples/s", _lines(content.metrics.train, ["samples_per_s"]))
    parts = [
        Line(name=name, x=curve.steps, y=[1000 * v for v in curve.values], color=n)
        for n, name in enumerate(content.shares)
        for curve in [content.metrics.train[f"s/{name}"]]
    ]
    yield chart("time of a step, ms", parts)


def _lines(curves: Curves, names: Sequence[str], *, zero: bool = False) -> list[Line]:
    """A line for each name that there is; for those that are 0 throughout, where `zero` says so."""
    found = [(name, curves[name]) for name in names]
    return [
        Line(name=name, x=curve.steps, y=curve.values, color=n)
        for n, (name, curve) in enumerate(
            (name, curve) for name, curve in found if zero or any(curve.values)
        )
    ]


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {whole % 60:02} s"
