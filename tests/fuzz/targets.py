"""Every fuzz target: a plain function of bytes that may end in nothing but an ActError."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from tests.fuzz import documents, messages, pictures, recordings, wires


class Target(NamedTuple):
    """One target.

    Attributes:
        run: Takes any bytes.
        seeds: Gives bytes that get far into it.
        runs: Of seeded changes in the short test, so that each target takes about a second.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    runs: int


TARGETS: Mapping[str, Target] = {
    "ros1_bag": Target(recordings.ros1_bag, lambda: list(recordings.ros1_bags()), 300),
    "ros1_records": Target(recordings.ros1_records, lambda: recordings.programs(3), 300),
    "mcap_file": Target(recordings.mcap_file, lambda: list(recordings.mcap_files()), 300),
    "mcap_records": Target(recordings.mcap_records, lambda: recordings.programs(6), 300),
    "db3_file": Target(recordings.db3_file, lambda: list(recordings.db3_files()), 200),
    "db3_pages": Target(recordings.db3_pages, lambda: recordings.programs(1), 200),
    "metadata": Target(recordings.metadata, recordings.metadata_files, 100),
    "inspect": Target(
        recordings.look,
        lambda: [bytes([n]) + p for n in range(3) for p in recordings.programs(1)],
        60,
    ),
    "recover": Target(
        recordings.recover,
        lambda: [bytes([n]) + p for n in range(3) for p in recordings.programs(1)],
        60,
    ),
    "payload": Target(messages.payload, messages.payloads, 3000),
    "look": Target(messages.look, messages.looks, 1000),
    "definition": Target(messages.definition, messages.definitions, 800),
    "compressed_picture": Target(pictures.compressed, pictures.compressed_seeds, 800),
    "raw_picture": Target(pictures.raw, pictures.raw_seeds, 1000),
    "jpeg_frame": Target(pictures.frame, pictures.frame_seeds, 1500),
    "tcpros": Target(wires.tcpros, wires.tcpros_seeds, 500),
    "ros1_master": Target(wires.ros1_master, wires.master_seeds, 500),
    "ros1_call": Target(wires.ros1_call, wires.call_seeds, 500),
    "foxglove": Target(wires.foxglove, wires.foxglove_seeds, 500),
    "robot_yaml": Target(documents.robot, documents.robots, 60),
    "urdf": Target(documents.urdf, documents.urdfs, 500),
    "workspace": Target(documents.workspace, documents.workspaces, 60),
    "segments": Target(documents.segments, documents.segment_files, 300),
    "sidecar": Target(documents.sidecar, documents.sidecars, 100),
    "statistics": Target(documents.statistics, documents.statistics_files, 3000),
    "store_documents": Target(documents.documents_of_a_store, documents.document_seeds, 60),
    "store_values": Target(documents.values_of_a_store, documents.value_seeds, 60),
    "store_shards": Target(documents.shards_of_a_store, documents.shard_seeds, 60),
}
