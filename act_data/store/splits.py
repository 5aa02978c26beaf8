"""Which episodes are held out: decided by content, stored for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from act_data.records import EpisodeEntry, Split, SplitRule

DEFAULT_RULE = SplitRule()


def bucket(episode_hash: str, seed: int = DEFAULT_RULE.seed) -> float:
    """A number in [0, 1) that depends on the episode's content and the seed alone."""
    digest = hashlib.sha256(f"{episode_hash}:{seed}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def assign(
    parent: Sequence[EpisodeEntry],
    hashes: Sequence[str],
    given: Sequence[Split | None] = (),
    rule: SplitRule | None = None,
) -> list[Split]:
    """Splits for new episodes with these content `hashes`, added to those of `parent`.

    Where `given` names one for an episode, that is it, and the rest is left to its bucket alone.
    Without any:

    An old episode never moves. A new one is held out when its bucket is below the share of `rule`
    (0.1). If then two or more episodes have none held out, the new one with the smallest bucket
    is; if all would be held out, the new one with the largest bucket is not. Deterministic.
    A rule that wants all or none of them gets what it wants.
    """
    rule = rule or DEFAULT_RULE
    buckets = [bucket(h, rule.seed) for h in hashes]
    splits: list[Split] = ["val" if b < rule.val_share else "train" for b in buckets]
    if any(given):
        return [known or own for known, own in zip(given, splits, strict=True)]
    if not splits or rule.val_share in (0, 1):
        return splits
    order = sorted(range(len(hashes)), key=lambda i: (buckets[i], i))
    together = {entry.split for entry in parent} | set(splits)
    if together == {"val"}:
        splits[order[-1]] = "train"
    elif together == {"train"} and len(parent) + len(splits) >= 2:
        splits[order[0]] = "val"
    return splits
