"""Where the registry lies."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

Place = Path | str  # a SQLite file, or the URL of a database


def default_place() -> Place:
    """`ACT_REGISTRY`, a path or a URL; else registry.db in the user's data folder."""
    chosen = os.environ.get("ACT_REGISTRY")
    if not chosen:
        return platformdirs.user_data_path("act", appauthor=False) / "registry.db"
    return chosen if "://" in chosen else Path(chosen).expanduser().absolute()
