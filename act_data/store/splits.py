"""Which episodes are held out: decided by content, stored for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from act_data.records import EpisodeEntry, Split

VAL_SHARE = 0.1
SEED = 0


def bucket(episode_hash: str, seed: int = SEED) -> float:
    """A number in [0, 1) that depends on the episode's content and the seed alone."""
    digest = hashlib.sha256(f"{episode_hash}:{seed}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def assign(
    parent: Sequence[EpisodeEntry], hashes: Sequence[str], given: Sequence[Split | None] = ()
) -> list[Split]:
    """Splits for new episodes with these content `hashes`, added to those of `parent`.

    Where `given` names one for an episode, that is it, and the rest is left to its bucket alone.
    Without any:

    An old episode never moves. A new one is held out when its bucket is below 0.1. If then two or
    more episodes have none held out, the new one with the smallest bucket is; if all would be
    held out, the new one with the largest bucket is not. Deterministic.
    """
    splits: list[Split] = ["val" if bucket(h) < VAL_SHARE else "train" for h in hashes]
    if any(given):
        return [known or own for known, own in zip(given, splits, strict=True)]
    if not splits:
        return splits
    order = sorted(range(len(hashes)), key=lambda i: (bucket(hashes[i]), i))
    together = {entry.split for entry in parent} | set(splits)
    if together == {"val"}:
        splits[order[-1]] = "train"
    elif together == {"train"} and len(parent) + len(splits) >= 2:
        splits[order[0]] = "val"
    return splits
