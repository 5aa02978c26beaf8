"""README.md of a LeRobot dataset: what the Hugging Face Hub shows, under the keys that it reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from act_data.records import DatasetFacts

_IDENTIFIER = re.compile(r"[A-Za-z0-9.+-]+")  # one of SPDX, alone; the Hub has them in lower case


def page(name: str, info: Mapping[str, Any], facts: DatasetFacts) -> str:
    """Markdown under a head of YAML, as LeRobot's own pages have it.

    Args:
        name: Of the dataset.
        info: What `meta/info.json` says.
    """
    keys = [
        *_licence(facts.licence),
        "task_categories:",
        "- robotics",
        "tags:",
        "- LeRobot",
        "configs:",
        "- config_name: default",
        "  data_files: data/*/*.parquet",
    ]
    frames, fps = info["total_frames"], info["fps"]
    parts = [
        "\n".join(["---", *keys, "---"]),
        f"# {_quoted(name)}",
        facts.description.strip(),
        f"{info['total_episodes']} episodes of robot {_quoted(info['robot_type'])}: {frames} "
        f"frames at {fps} Hz, {frames / fps / 60:.1f} min. Units, sources and true stamps of every "
        "frame: `meta/act.json` and the columns `sync.*`, where they are known.",
    ]
    if facts.licence:
        parts.append(f"Licence: {_quoted(facts.licence)}.")
    if facts.cite:
        parts += ["## How to cite", "```\n" + facts.cite.replace("```", "'''") + "\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


def _licence(licence: str) -> list[str]:
    if not licence:
        return []
    if _IDENTIFIER.fullmatch(licence):
        return [f"license: {json.dumps(licence.lower())}"]
    key = "license_link" if licence.startswith(("http://", "https://")) else "license_name"
    return ["license: other", f"{key}: {json.dumps(licence)}"]  # what is JSON is YAML


def _quoted(text: str) -> str:
    """As text, whatever stands in it."""
    printable = "".join(c if c.isprintable() and c != "`" else " " for c in text)
    return f"`{printable.strip() or ' '}`"
