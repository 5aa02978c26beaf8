"""Datasets that travel: to and from folders, S3 and whatever else fsspec reaches.

blobs/sha256/ab/<hex>       shards and records, in parts of at most 8 MiB, by content
manifests/<sha256>.json     one per episode, and one per version that names those
refs/<dataset>/v3.json      what a version, "latest" or a tag stands for (a tag's with its log): the
                            only thing that moves
"""

from __future__ import annotations

from act_data.remotes.pull import clone, pull
from act_data.remotes.push import push
from act_data.remotes.rebase import rebase
from act_data.remotes.records import PullReport, PushReport

__all__ = ["PullReport", "PushReport", "clone", "pull", "push", "rebase"]
