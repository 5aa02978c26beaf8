"""`metadata.yaml` of a rosbag2 directory: a second promise, never a source of facts.

Recorders and copies leave it stale (wrong QoS text, wrong serialization, renamed files), so the
storage files are read without it. It is only asked what the recording should hold.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

_MAX_BYTES = 16 * 2**20

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What a rosbag2 directory says about itself.

    Attributes:
        files: Storage files it lists, by file name.
        counts: Messages by topic.
    """

    files: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


def read_promise(metadata: Path) -> Promise | None:
    """The promise of a `metadata.yaml`; None, with a warning, when it is not one of rosbag2."""
    try:
        if metadata.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES} bytes")
        data = YAML(typ="safe", pure=True).load(metadata.read_text(encoding="utf-8"))
        info = data["rosbag2_bagfile_information"]
        return Promise(
            files=tuple(Path(str(p)).name for p in info.get("relative_file_paths") or ()),
            counts={
                str(t["topic_metadata"]["name"]): int(t["message_count"])
                for t in info.get("topics_with_message_count") or ()
            },
        )
    except (
        YAMLError,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,  # ruamel's, at a key that an ordered mapping has twice
        RecursionError,
    ) as e:
        log.warning("%s is ignored: %s", metadata, " ".join(str(e).split())[:200])
        return None
