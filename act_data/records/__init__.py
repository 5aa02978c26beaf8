"""The nouns that are written to a file or read from one, as checked models.

Their JSON Schemas are generated into `schemas/` and a test holds the two in step. Every record is
frozen and refuses unknown keys; a field that is added later needs a default.
"""

from act_data.records.base import Record
from act_data.records.episodes import (
    Annotation,
    EpisodeInfo,
    EpisodeRecord,
    FileDigest,
    ImportRecord,
    PictureOrigin,
    SegmentRecord,
    SourceRecord,
)
from act_data.records.features import (
    FORMAT_NAME,
    FORMAT_VERSION,
    SYNC_INDEX,
    SYNC_REASON,
    SYNC_SKEW,
    TIMESTAMP,
    Codec,
    DatasetSchema,
    Feature,
    StoredPicture,
    StreamSync,
    SyncColumn,
)
from act_data.records.findings import Depth, FeatureStats, Problem, StatsRecord
from act_data.records.recovery import (
    FileRecovery,
    Gap,
    RecoveredFile,
    RecoveryReport,
    TopicRecovery,
    UnreadableFile,
)
from act_data.records.sync import StreamReport, SyncReport, reason_name
from act_data.records.versions import (
    DatasetFacts,
    EpisodeEntry,
    PartOf,
    Split,
    SplitRule,
    VersionOrigin,
    VersionRecord,
)

__all__ = [
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "SYNC_INDEX",
    "SYNC_REASON",
    "SYNC_SKEW",
    "TIMESTAMP",
    "Annotation",
    "Codec",
    "DatasetFacts",
    "DatasetSchema",
    "Depth",
    "EpisodeEntry",
    "EpisodeInfo",
    "EpisodeRecord",
    "Feature",
    "FeatureStats",
    "FileDigest",
    "FileRecovery",
    "Gap",
    "ImportRecord",
    "PartOf",
    "PictureOrigin",
    "Problem",
    "Record",
    "RecoveredFile",
    "RecoveryReport",
    "SegmentRecord",
    "SourceRecord",
    "Split",
    "SplitRule",
    "StatsRecord",
    "StoredPicture",
    "StreamReport",
    "StreamSync",
    "SyncColumn",
    "SyncReport",
    "TopicRecovery",
    "UnreadableFile",
    "VersionOrigin",
    "VersionRecord",
    "reason_name",
]
