"""act-model: train a policy, measure it, run it."""

from __future__ import annotations

import typer

from . import deploy, evaluate, train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train, evaluate and deploy ACT policies.",
)
app.command()(train.train)
app.command()(deploy.deploy)
app.command()(evaluate.evaluate)


def main() -> None:
    """Entry point of `act-model`."""
    app()
