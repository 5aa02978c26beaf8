"""act-data: recordings in, datasets out, and questions about both."""

from __future__ import annotations

import os

import typer

from . import (
    annotate,
    cache,
    card,
    compact,
    convert,
    datasets,
    delete_episodes,
    diff,
    filter_episodes,
    gc,
    ingest,
    inspect,
    lineage,
    merge,
    pull,
    push,
    record,
    recover,
    restore,
    robots,
    search,
    split,
    tag,
)
from .completion import join_bash_words

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="From recorded rosbags to synchronised, versioned episodes.",
)
app.command()(inspect.inspect)
app.command()(record.record)
app.command()(ingest.ingest)
app.command()(recover.recover)
app.command()(convert.convert)
app.command()(cache.cache)
app.command()(datasets.stats)
app.command("list")(datasets.list_datasets)
app.command("ls", hidden=True)(datasets.list_datasets)
app.command()(search.search)
app.command()(datasets.show)
app.command()(card.card)
app.command()(datasets.verify)
app.command()(datasets.rebuild)
app.command()(tag.tag)
app.command()(tag.log)
app.command()(diff.diff)
app.command()(lineage.lineage)
app.command()(delete_episodes.delete_episodes)
app.command()(restore.restore)
app.command("filter")(filter_episodes.filter_episodes)
app.command()(annotate.annotate)
app.command()(split.split)
app.command()(merge.merge)
app.command()(compact.compact)
app.command()(gc.gc)
app.command()(push.push)
app.command()(pull.pull)
app.command()(pull.clone)
app.command()(robots.robots)


def main() -> None:
    """Entry point of `act-data`."""
    join_bash_words(os.environ)
    app()
