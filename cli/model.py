"""act-model: train a policy, measure it, run it, hand it on."""

from __future__ import annotations

import os

import typer

from . import (
    bench,
    deploy,
    evaluate,
    export,
    import_policy,
    report,
    serve,
    simulate,
    train,
    truth,
)
from .completion import join_bash_words

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train, evaluate, deploy, export and serve ACT policies.",
)
app.command()(train.train)
app.command()(deploy.deploy)
app.command()(report.report)
app.command()(evaluate.evaluate)
app.command()(export.export)
app.command("import")(import_policy.import_policy)
app.command()(bench.bench)
app.command()(simulate.simulate)
app.command()(serve.serve)
app.command()(truth.truth)


def main() -> None:
    """Entry point of `act-model`."""
    join_bash_words(os.environ)
    app()
