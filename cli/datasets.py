"""Questions about datasets: stats, list, show, verify, rebuild."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from act_data.errors import InputError

from . import console, tables
from .options import Json, Ref

if TYPE_CHECKING:
    from act_data.records import StatsRecord
    from act_data.registry import RegisteredDataset
    from act_data.report import DatasetCard


def stats(
    ref: Ref,
    split: Annotated[
        Literal["train", "val", "all"], typer.Option(help="Which episodes count.")
    ] = "train",
    json: Json = False,
) -> None:
    """Mean, std, min, max and quantiles of every dimension; saved beside and inside the dataset.

    Example: act-data stats ds.zarr
    """
    with console.errors():
        from act_data.report import stats as run

        with console.progress("stats") as advance:
            record, path = run(ref, split=split, progress=advance)
        if json:
            console.write_json(record.model_dump(mode="json"))
        else:
            _print_stats(record)
            console.say(f"saved to {path}")


def list_datasets(json: Json = False) -> None:
    """The registered datasets.

    Example: act-data list
    """
    with console.errors():
        from act_data.registry import Registry

        rows = Registry().datasets()
        if json:
            console.write_json([row.model_dump(mode="json") for row in rows])
        else:
            _print_datasets(rows)


def rebuild(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Datasets, or folders to search for them.")
    ] = None,
    json: Json = False,
) -> None:
    """Read the registry again from the datasets themselves, which are the truth.

    Example: act-data rebuild datasets/
    """
    with console.errors():
        from act_data.registry import Registry

        names = Registry().rebuild(paths or [])
        if json:
            console.write_json(names)
        else:
            console.say(f"{len(names)} datasets: {', '.join(names) or 'none'}")


def show(ref: Ref, json: Json = False) -> None:
    """What a dataset holds: robot, arrays, episodes, splits, sync quality.

    Example: act-data show ds@1
    """
    with console.errors():
        from act_data.report import show as run

        card = run(ref)
        if json:
            console.write_json(card.model_dump(mode="json"))
        else:
            _print_card(card)


def verify(
    ref: Ref,
    quick: Annotated[bool, typer.Option("--quick", help="Records and file sizes only.")] = False,
    hash_: Annotated[
        bool, typer.Option("--hash", help="Every byte, by manifest and content hash [default].")
    ] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Also decode every frame.")] = False,
    json: Json = False,
) -> None:
    """Prove that every byte of a dataset is what was committed.

    Example: act-data verify ds.zarr --deep
    """
    with console.errors():
        from act_data.check import verify as run

        if quick + hash_ + deep > 1:
            raise InputError("--quick, --hash and --deep exclude each other", hint="Give one.")
        result = run(ref, "quick" if quick else "deep" if deep else "hash")
        if json:
            console.write_json(result.model_dump(mode="json"))
        else:
            for problem in result.problems:
                console.out.print(Text(problem.what), soft_wrap=True)
            state = "sound" if result.sound else f"{len(result.problems)} problems"
            state += " (sizes only)" if quick else ""
            console.say(f"{result.dataset} version {result.version}: {state}")
        if not result.sound:
            raise typer.Exit(1)


def _print_stats(record: StatsRecord) -> None:
    """One line per dimension, or per channel of a picture."""
    for name, feature in record.features.items():
        unit = f" [{feature.unit}]" if feature.unit else ""
        table = tables.table(
            f"{name}{unit}", ["dim"], ["count", "mean", "std", "min", "max", "q01", "q50", "q99"]
        )
        pictures = name.startswith(("images/", "depth/"))
        channels = ("r", "g", "b") if len(feature.count) == 3 else ("mm",)
        names = channels if pictures else feature.names
        for i, count in enumerate(feature.count):
            label = names[i] if i < len(names) else str(i)
            marks = " (constant)" if i in feature.constant else ""
            marks += f" ({feature.nan[i]} not finite)" if feature.nan[i] else ""
            table.add_row(
                Text(label + marks),
                str(count),
                *(tables.number(column[i]) for column in (feature.mean, feature.std, feature.min)),
                *(tables.number(column[i]) for column in (feature.max, feature.q01)),
                *(tables.number(column[i]) for column in (feature.q50, feature.q99)),
            )
        tables.show(table)
    console.out.print(
        Text(
            f"{record.dataset} version {record.version}, {record.split} split: "
            f"{record.episodes} episodes, {record.steps} steps"
        )
    )


def _print_datasets(rows: Sequence[RegisteredDataset]) -> None:
    """The registered datasets."""
    if not rows:
        console.say("no dataset is registered; `act-data ingest BAGS --out NAME.zarr` makes one")
        return
    table = tables.table("", ["name", "robot", "path"], ["fps", "version", "episodes", "steps"])
    for row in rows:
        newest = row.versions[-1]
        table.add_row(
            *(Text(row.name), Text(row.robot), Text(row.path), f"{row.fps:g}"),
            *(str(newest.number), str(newest.episodes), str(newest.frames)),
        )
    tables.show(table)


def _print_card(card: DatasetCard) -> None:
    """A dataset's passport."""
    minutes = card.steps / card.fps / 60
    console.out.print(
        Text(
            f"{card.path}\n  robot {card.robot}, {card.fps:g} Hz, action shift "
            f"{card.action_shift}\n  version {card.version} of {card.created}, content "
            f"{card.content_hash}\n  {len(card.episodes)} episodes, {card.steps} steps "
            f"({minutes:.1f} min), statistics {'saved' if card.has_stats else 'not computed'}\n"
            f"  {card.size_bytes / 1e6:.1f} MB, licence {card.facts.licence or 'not said'}"
        )
    )
    if card.facts.part_of is not None:
        whole = card.facts.part_of
        without = f", without {', '.join(whole.without)}" if whole.without else ""
        console.out.print(
            Text(
                f"  a part of {whole.dataset}@v{whole.version} (content "
                f"{whole.content_hash[:12]}): {len(card.episodes)} of {whole.of_episodes} "
                f"episodes{without}"
            )
        )
    arrays = tables.table("arrays", ["name", "role", "dtype", "shape", "unit", "stored"], [])
    for f in card.arrays:
        shape = "x".join(map(str, f.shape)) or "1"
        stored = f"{f.codec} q{f.quality}" if f.codec == "jpeg" else f.codec
        arrays.add_row(f.name, f.role.value, f.dtype, shape, f.unit, stored)
    tables.show(arrays)
    if card.quality:
        quality = tables.table(
            "synchronisation", ["stream"], ["Hz", "skew p50 ms", "p99", "drops", "not valid %"]
        )
        for name, q in card.quality.items():
            quality.add_row(
                Text(name),
                *(tables.ms(v) for v in (q.rate_hz, q.skew_p50_ms, q.skew_abs_p99_ms)),
                *(str(q.drops), f"{100 * q.invalid:.1f}"),
            )
        tables.show(quality)
    episodes = tables.table("episodes", ["uid", "recording", "split", "task"], ["steps", "masked"])
    for e in card.episodes:
        episodes.add_row(
            e.uid, Text(e.recording), e.split, Text(e.task), str(e.steps), str(e.masked)
        )
    tables.show(episodes)
