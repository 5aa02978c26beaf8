"""A dataset's card for people: one page of Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from act_data.records import Feature
from act_data.report import DatasetCard

_MAX_TASKS = 20


def markdown(card: DatasetCard) -> str:
    """The page. What recordings and people say stands in it as text, never as markup."""
    parts = [f"# {_text(card.name)}", card.facts.description, _table(("", ""), _summary(card))]
    parts += ["## Arrays", _table(("name", "role", "type", "unit", "stored as"), _arrays(card))]
    if card.streams:
        head = ("stream", "pick", "tolerance", "rate", "skew", "99 %", "drops", "not valid")
        parts += [
            "## Synchronisation",
            f"Ticks on a grid of {card.fps:g} Hz. Skew is the stamp of the sample minus the tick: "
            "the median of all episodes, and what 99 % of the worst one stay below. Stamps, "
            "skews and reasons of every step are in the data.",
            _table(head, _streams(card)),
        ]
    parts += ["## How it was made", _made(card), "## How to cite", _cite(card)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _summary(card: DatasetCard) -> list[tuple[str, str]]:
    splits = Counter(e.split for e in card.episodes)
    tasks = Counter(e.task for e in card.episodes if e.task).most_common()
    told = [e.success for e in card.episodes if e.success is not None]
    minutes = card.steps / card.fps / 60
    rows = [
        ("robot", _text(card.robot)),
        ("version", f"{card.version} of {_text(card.created)}"),
        ("content", f"`{card.content_hash}`"),
        ("episodes", f"{len(card.episodes)} ({splits['train']} train, {splits['val']} val)"),
        ("steps", f"{card.steps} at {card.fps:g} Hz, {minutes:.1f} min"),
        ("size", _size(card.size_bytes)),
    ]
    if tasks:
        named = [f"{_text(task)} ({count})" for task, count in tasks[:_MAX_TASKS]]
        more = [f"{len(tasks) - _MAX_TASKS} more"] if len(tasks) > _MAX_TASKS else []
        rows.append(("tasks", ", ".join([*named, *more])))
    if told:
        rows.append(("successful", f"{sum(told)} of {len(told)} that say"))
    masked = sum(e.masked for e in card.episodes)
    rows.append(("masked steps", f"{masked}, where a required stream had no valid sample"))
    if card.facts.part_of is not None:
        whole = card.facts.part_of
        without = f", without {', '.join(map(_text, whole.without))}" if whole.without else ""
        rows.append((
            "part of",
            f"{_text(whole.dataset)} version {whole.version} (content `{whole.content_hash}`): "
            f"{len(card.episodes)} of {whole.of_episodes} episodes{without}",
        ))  # fmt: skip
    rows.append(("licence", _text(card.facts.licence) or "not said"))
    return rows


def _arrays(card: DatasetCard) -> list[tuple[str, ...]]:
    return [
        (
            _text(f.name),
            f.role.value,
            f"{f.dtype} {'x'.join(map(str, f.shape)) or 'scalar'}",
            _text(f.unit),
            _stored(f),
        )
        for f in card.arrays
    ]


def _stored(feature: Feature) -> str:
    if feature.codec == "jpeg":
        return f"jpeg, quality {feature.quality}"
    return "plain" if feature.codec == "none" else feature.codec


def _streams(card: DatasetCard) -> list[tuple[str, ...]]:
    rows = []
    for name, sync in card.streams.items():
        found = card.quality.get(name)
        measured: Sequence[str] = ("", "", "", "", "")
        if found is not None:
            measured = (
                _number(found.rate_hz, "Hz"),
                _number(found.skew_p50_ms, "ms"),
                _number(found.skew_abs_p99_ms, "ms"),
                str(found.drops),
                f"{100 * found.invalid:.1f} %",
            )
        rows.append((_text(name), sync.policy.value, f"{sync.tolerance_ms:g} ms", *measured))
    return rows


def _made(card: DatasetCard) -> str:
    sources = ", ".join(f"{count} {_text(kind)}" for kind, count in card.sources.items())
    program = f" with {_text(card.made_with)}" if card.made_with else ""
    return (
        f"From {sources or 'no'} recordings{program}: clock {card.clock.value}, late samples "
        f"waited for up to {card.latency_ms:g} ms, `action[t]` is the command at step "
        f"t + {card.action_shift}. Every episode names the recording, its sha256, its topics and "
        "its times (`act-data show`)."
    )


def _cite(card: DatasetCard) -> str:
    if card.facts.cite:
        return "```\n" + card.facts.cite.replace("```", "'''") + "\n```"
    return (
        f"{_text(card.name)}, version {card.version}, content `{card.content_hash}`. Whoever has a "
        "copy proves that it is this one with `act-data verify`."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: str) -> str:
    """What a recording or a person says, as text within a table."""
    one_line = "".join(c if c.isprintable() else " " for c in value)
    for mark in "\\`*_[]<>|#":
        one_line = one_line.replace(mark, "\\" + mark)
    return one_line


def _number(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.1f} {unit}"


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"
