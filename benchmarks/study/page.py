"""The results of sim_study.py as tables and a picture of a page; what is missing is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- results: written by sim_study.py -->", "<!-- end of results -->"
REALISMS = ("none", "lab", "bad")
_COLOURS = ("#0b6", "#0ad", "#06c", "#c60", "#a0a")
Row = Mapping[str, Any]


def written(page: Path, rows: Sequence[Row], ways: Mapping[str, Sequence[str]]) -> None:
    """Replace the part of `page` between its marks, and the picture beside it."""
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise SystemExit(f"{page} has no part between {BEGIN!r} and {END!r}")
    picture = page.with_name(f"{page.stem}-sync.svg")
    picture.write_text(plot(rows, ways["sync"]), encoding="utf-8")
    parts = [
        BEGIN,
        f"![success by realism and synchronisation]({picture.name})",
        sync_table(rows, ways["sync"]),
        chunks_table(rows),
        jpeg_table(rows, ways["jpeg"]),
        END,
    ]
    page.write_text(head + "\n\n".join(parts) + tail, encoding="utf-8")


def sync_table(rows: Sequence[Row], ways: Sequence[str]) -> str:
    lines = [
        "Success (held to the end) by seed of training, open loop, and the share of frames that "
        "are valid:",
        "",
        "| sensors | " + " | ".join(f"`{way}`" for way in ways) + " |",
        "|---|" + "---|" * len(ways),
    ]
    for realism in REALISMS:
        told = [_cell(_those(rows, of="sync", realism=realism, way=way)) for way in ways]
        lines.append(f"| {realism} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def chunks_table(rows: Sequence[Row]) -> str:
    lines = [
        "The same policies of `hold`, by how chunks become actions:",
        "",
        "| sensors | open loop | temporal ensemble |",
        "|---|---|---|",
    ]
    for realism in REALISMS:
        told = [
            _shares(_those(rows, of="sync", realism=realism, way="hold", chunks=chunks))
            for chunks in ("open-loop", "ensemble")
        ]
        lines.append(f"| {realism} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def jpeg_table(rows: Sequence[Row], ways: Sequence[str]) -> str:
    lines = [
        "From one 120x160 picture, by its JPEG quality:",
        "",
        "| quality | success (held) by seed |",
        "|---|---|",
    ]
    for way in ways:
        those = [r for r in rows if r["of"] == "jpeg" and r["way"] == way]
        lines.append(f"| {way} | {_shares(those)} |")
    return "\n".join(lines)


def plot(rows: Sequence[Row], ways: Sequence[str]) -> str:
    """An SVG: success of every training as a dot, by realism, a colour for each way."""
    width, height, left, bottom = 560, 260, 50, 40
    band = (width - left) / len(REALISMS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 30}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height + 30}" fill="white"/>',
    ]

    def y(share: float) -> float:
        return 15 + (1 - share) * (height - bottom - 15)

    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(
            f'<line x1="{left}" x2="{width}" y1="{y(share):.1f}" y2="{y(share):.1f}" '
            f'stroke="#ddd"/><text x="{left - 6}" y="{y(share) + 4:.1f}" text-anchor="end">'
            f"{share:.0%}</text>"
        )
    for i, realism in enumerate(REALISMS):
        middle = left + band * (i + 0.5)
        parts.append(
            f'<text x="{middle:.1f}" y="{height - 18}" text-anchor="middle">{realism}</text>'
        )
        for j, way in enumerate(ways):
            x = middle + (j - (len(ways) - 1) / 2) * 26
            those = _those(rows, of="sync", realism=realism, way=way)
            shares = [row["success"] for row in those]
            parts += [
                f'<circle cx="{x + 3 * k - 3:.1f}" cy="{y(share):.1f}" r="4" '
                f'fill="{_COLOURS[j]}" fill-opacity="0.6"/>'
                for k, share in enumerate(shares)
            ]
            if shares:
                mean = y(sum(shares) / len(shares))
                parts.append(
                    f'<line x1="{x - 10:.1f}" x2="{x + 10:.1f}" y1="{mean:.1f}" y2="{mean:.1f}" '
                    f'stroke="{_COLOURS[j]}" stroke-width="2"/>'
                )
    for j, way in enumerate(ways):
        parts.append(
            f'<circle cx="{left + 15 + 95 * j}" cy="{height + 12}" r="4" fill="{_COLOURS[j]}"/>'
            f'<text x="{left + 24 + 95 * j}" y="{height + 16}">{way}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _those(
    rows: Sequence[Row], *, of: str, realism: str, way: str, chunks: str = "open-loop"
) -> list[Row]:
    wanted = {"of": of, "realism": realism, "way": way, "chunks": chunks}
    those = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return sorted(those, key=lambda row: int(row["seed"]))


def _shares(those: Sequence[Row]) -> str:
    """Success and, in brackets, held, in percent by seed."""
    if not those:
        return "not measured"
    success = ", ".join(f"{100 * row['success']:.0f}" for row in those)
    held = ", ".join(f"{100 * row['held']:.0f}" for row in those)
    return f"{success} ({held})"


def _cell(those: Sequence[Row]) -> str:
    if not those:
        return "not measured"
    row = those[0]
    return f"{_shares(those)}; {row['valid'] / row['frames']:.0%} of {row['frames']}"
