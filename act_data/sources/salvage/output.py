"""What was read of a damaged file as a complete one: ROS 1 as `.bag`, ROS 2 as `.mcap`.

Each is what the tools of its ROS version play: no ROS 1 tool reads MCAP, and ROS 2 reads it in
every version that is maintained, with the definitions inside that a `.db3` may lack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from act_data.sources.given_types import GivenTypes
from act_data.sources.mcap_records import MESSAGE, RawChannel
from act_data.sources.salvage.db3 import SalvagedDb3
from act_data.sources.salvage.mcap import SalvagedMcap
from act_data.sources.salvage.mcap_writer import McapWriter
from act_data.sources.salvage.ros1 import SalvagedRos1
from act_data.sources.salvage.ros1_writer import Ros1Writer
from act_data.sources.storage import Channel, Storage


def write_whole_copy(
    storage: Storage, types: GivenTypes, file: BinaryIO, progress: Callable[[int], None]
) -> None:
    """Write everything that a salvaged file holds, in log order.

    Args:
        types: Definitions for channels that have none; they are written with them.
        file: Empty, open for writing.
        progress: Called with the messages written so far.

    Raises:
        DataError: The file changed since it was scanned.
        OSError: The disk is full or failing.
    """
    topics = {channel.topic for channel in storage.channels}
    if isinstance(storage, SalvagedRos1):
        ros1 = Ros1Writer(file, storage.channels, "lz4" if storage.compressed else "")
        try:
            for count, (recv_ns, _, channel, load) in enumerate(storage.messages(topics)):
                ros1.write(channel.id, recv_ns, load())
                progress(count + 1)
            ros1.finish()
        finally:
            ros1.close()
        return
    given = {c.id: types.complete(c) for c in storage.channels}
    changed = [c.id for c in storage.channels if given[c.id] is not c]
    if isinstance(storage, SalvagedMcap):
        channels = {**storage.raw, **{id_: _raw(given[id_]) for id_ in changed}}
        compression = "zstd" if storage.compressed else ""
        mcap = McapWriter(file, storage.profile, channels, compression)
        try:
            for opcode, start, stop in storage.extras:
                mcap.extra(opcode, storage.extra(start, stop))
            before = MESSAGE.size
            for count, (recv_ns, _, channel, load) in enumerate(
                storage.messages(topics, before=before)
            ):
                data = memoryview(load())
                _, sequence, _, publish_ns = MESSAGE.unpack_from(data)
                mcap.write(
                    channel.id, recv_ns, data[before:], sequence=sequence, publish_ns=publish_ns
                )
                progress(count + 1)
            mcap.finish()
        finally:
            mcap.close()
        return
    assert isinstance(storage, SalvagedDb3)
    numbers = {channel.id: number for number, channel in enumerate(storage.channels)}
    mcap = McapWriter(file, "ros2", {numbers[i]: _raw(c) for i, c in given.items()}, "")
    try:
        for count, (recv_ns, _, channel, load) in enumerate(storage.messages(topics)):
            mcap.write(numbers[channel.id], recv_ns, load())
            progress(count + 1)
        mcap.finish()
    finally:
        mcap.close()


def _raw(channel: Channel) -> RawChannel:
    """A channel as rosbag2 declares it."""
    definition = channel.definition
    form = "ros2idl" if definition is not None and definition.format == "idl" else "ros2msg"
    data = definition.text.encode() if definition is not None else b""
    return RawChannel(
        topic=channel.topic,
        encoding=channel.encoding or "",
        schema=(channel.type, form if data else "", data),
        metadata=channel.about,
    )
