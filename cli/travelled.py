"""What push and pull say about tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from . import console

if TYPE_CHECKING:
    from act_data.remotes import PullReport, PushReport

WITH_LOSS = 3


def say_tags(report: PushReport | PullReport) -> None:
    """Which tags moved, and which could not."""
    if report.tags:
        console.say(f"tags: {', '.join(report.tags)}")
    for found in report.tag_conflicts:
        there = f"{report.dataset}@{found.there}" if found.there else report.dataset
        way = f"{there} {found.tag}" if found.there else f"{there} {found.tag} --remove"
        console.warn(
            f"the tag {found.tag} was moved on both sides: it is {_version(found.here)} here, "
            f"{_version(found.there)} there ({found.who}, {found.moved}); neither was changed. "
            f"Agree to theirs: act-data tag {way}; then tag as you want it, and push"
        )


def exit_with_loss(report: PushReport | PullReport) -> None:
    """End with the exit code for a loss if a tag could not travel."""
    if report.tag_conflicts:
        raise typer.Exit(WITH_LOSS)


def _version(number: int | None) -> str:
    return "taken off" if number is None else f"version {number}"
