"""What lies on the disk while a recording is made, and when it is finished."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from act_data.errors import ConflictError, StoreError
from act_data.sources import find_recordings, open_recording
from act_data.sources.live import Arrival
from act_data.sources.live import spool as spool_module
from act_data.sources.live.spool import CHUNK_BYTES, CHUNK_S, METADATA, Spool
from act_data.sources.storage import Channel, Definition
from tests.bags import typestore
from tests.live_topics import ENCODINGS, Encoding, channels, payloads, streamed
from tests.small_robot import entries

ABOUT = {"robot": "small", "task": "pick the cube"}
WAY = entries(30)
TOPICS = ["/arm", "/cam/image_raw", "/lead"]


def arrivals(encoding: Encoding = "cdr") -> list[Arrival]:
    return [Arrival(recv_ns + i, topic, payload)
            for i, (recv_ns, topic, payload) in enumerate(payloads(WAY, encoding))]  # fmt: skip


def spooled(target: Path, encoding: Encoding = "cdr") -> tuple[Path, list[Arrival]]:
    sent = arrivals(encoding)
    spool = Spool(target, channels(WAY, encoding), ABOUT)
    for arrival in sent:
        spool.write(arrival)
    assert not target.exists()
    return spool.finish({"success": "true"}), sent


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_finished_spool_is_a_recording_with_every_message(
    tmp_path: Path, encoding: Encoding
) -> None:
    path, sent = spooled(tmp_path / "episode-000.mcap", encoding)
    (recording,) = find_recordings([path])
    with open_recording(recording) as source:
        read = list(source.messages(TOPICS))
        assert [(r.recv_ns, r.topic, bytes(r.payload)) for r in read] == sent
        assert {t.name: (t.type, t.count) for t in source.topics.values()} == {
            "/arm": ("sensor_msgs/msg/JointState", 30),
            "/cam/image_raw": ("sensor_msgs/msg/Image", 30),
            "/lead": ("sensor_msgs/msg/JointState", 30),
        }
        assert {r.encoding for r in read} == {encoding}
        assert source.deserialize(read[0]).height == 16
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_reader_of_mcap_finds_messages_profile_definitions_and_metadata(
    tmp_path: Path, encoding: Encoding
) -> None:
    path, sent = spooled(tmp_path / "x.mcap", encoding)
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == ("ros1" if encoding == "ros1" else "ros2")
        read = [(m.log_time, c.topic, m.data) for _, c, m in reader.iter_messages()]
        assert read == sent
        summary = reader.get_summary()
        assert summary is not None
        schemas = {s.name: (s.encoding, s.data) for s in summary.schemas.values()}
        name = "sensor_msgs/Image" if encoding == "ros1" else "sensor_msgs/msg/Image"
        assert schemas[name][0] == ("ros1msg" if encoding == "ros1" else "ros2msg")
        assert b"MSG: std_msgs/Header" in schemas[name][1]
        about = [(m.name, m.metadata) for m in reader.iter_metadata()]
        assert about == [(METADATA, ABOUT), (METADATA, {"success": "true"})]


def test_rosbags_opens_a_finished_spool_of_ros2(tmp_path: Path) -> None:
    path, sent = spooled(tmp_path / "x.mcap")
    with AnyReader([path]) as reader:
        read = [(t, c.topic, bytes(data)) for c, t, data in reader.messages()]
        assert read == sent
        decoded = [reader.deserialize(d, c.msgtype) for c, _, d in reader.messages()]
        assert decoded[1].name == ["a", "b"]  # type: ignore[attr-defined]


def test_the_payloads_of_a_ros1_spool_are_those_of_ros1(tmp_path: Path) -> None:
    """rosbags refuses every MCAP of ROS 1; what mcap finds in it, rosbags' types decode."""
    path, _ = spooled(tmp_path / "x.mcap", "ros1")
    store = typestore("ros1")
    with path.open("rb") as file:
        (first,) = (m for _, c, m in make_reader(file).iter_messages(["/arm"]) if m.sequence == 0)
    assert store.deserialize_ros1(first.data, "sensor_msgs/msg/JointState").name == ["a", "b"]


def test_definitions_in_idl_and_topics_without_one_are_kept_as_they_are(tmp_path: Path) -> None:
    idl = "module a { module msg { struct B { long c; }; }; };"
    given = [
        Channel(id=7, topic="/idl", type="a/msg/B", encoding="cdr",
                definition=Definition(format="idl", text=idl), count=0),
        Channel(id=7, topic="/none", type="x/msg/Y", encoding="cdr", definition=None, count=0),
    ]  # fmt: skip
    spool = Spool(tmp_path / "x.mcap", given, {})
    for i, topic in enumerate(["/idl", "/none"]):
        spool.write(Arrival(i + 1, topic, b"\0\1\0\0\5\0\0\0"))
    path = spool.finish({})
    with open_recording(find_recordings([path])[0]) as source:
        assert source.channel("/idl").definition == given[0].definition
        assert source.channel("/none").definition is None
        messages = list(source.messages(["/idl", "/none"]))
        assert source.deserialize(messages[0]).c == 5
        assert messages[1].type == "x/msg/Y"


def test_what_was_written_is_in_the_file_within_half_a_second_and_the_file_is_named_active(
    tmp_path: Path,
) -> None:
    target = tmp_path / "x.mcap"
    spool = Spool(target, channels(WAY), ABOUT)
    sent = arrivals()
    for arrival in sent[:-1]:
        spool.write(arrival)
    time.sleep(CHUNK_S)
    spool.flush_if_due()
    spool.write(sent[-1])  # it may still wait
    found = streamed((tmp_path / "x.mcap.active").read_bytes())
    assert [(m.log_time, m.data) for _, m in found] == [(a.recv_ns, a.payload) for a in sent[:-1]]
    spool.discard()
    assert list(tmp_path.iterdir()) == []


def test_large_messages_do_not_wait_for_the_half_second(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "x.mcap", channels(WAY), ABOUT)
    spool.write(Arrival(1, "/cam/image_raw", bytes(CHUNK_BYTES)))
    assert spool.path.stat().st_size > CHUNK_BYTES
    assert len(streamed(spool.path.read_bytes())) == 1
    spool.keep()
    assert spool.path.exists()


@pytest.mark.parametrize("name", ["x.mcap", "x.mcap.active"])
def test_no_file_is_ever_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(ConflictError, match="exists"):
        Spool(tmp_path / "x.mcap", channels(WAY), ABOUT)
    assert (tmp_path / name).read_bytes() == b"precious"


FULL = """
import sys
from pathlib import Path
from act_data.errors import StoreError
from act_data.sources.live import Arrival
from act_data.sources.live import spool as spool_module
from act_data.sources.live.spool import Spool
from tests.live_topics import channel
folder = Path(sys.argv[1])
spool = Spool(folder / "x.mcap", [channel("/cam", "sensor_msgs/msg/Image")], {})
written = 0
try:
    while True:
        spool.write(Arrival(written + 1, "/cam", bytes(int(sys.argv[2]))))
        written += 1
except StoreError as e:
    print(e)
    print(e.hint)
print(written)
spool.finish({"stopped": "the disk is full"})
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="unshare, of util-linux, is not there")
@pytest.mark.parametrize("size", [300, 921_600], ids=["small-messages", "pictures"])
def test_on_a_full_disk_the_file_is_finished_with_all_that_was_accepted(
    tmp_path: Path, size: int
) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept.mcap"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=24m tmpfs "$1" && "$2" -c "$3" "$1" "$5"; cp "$1/x.mcap" "$4"'
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", disk, sys.executable, FULL, kept, str(size)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    error, hint, written = ended.stdout.splitlines()
    assert "x.mcap.active': the disk is full" in error
    assert "Make room" in hint
    with open_recording(find_recordings([kept])[0]) as source:
        assert source.topics["/cam"].count == int(written)
        assert sum(1 for _ in source.messages(["/cam"])) == int(written)
    assert kept.stat().st_size > 20 * 2**20


def test_a_disk_that_fails_to_keep_what_it_was_given_is_told_to_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(spool_module, "SYNC_S", 0.01)
    spool = Spool(tmp_path / "x.mcap", channels(WAY), ABOUT)
    first, second, *_ = arrivals()
    spool.write(first)
    spool.flush()
    monkeypatch.setattr("os.fdatasync", fails)
    spool.write(second)
    with suppress(StoreError):  # the other thread may be quick
        spool.flush()
    spool._syncing.join(10)
    with pytest.raises(StoreError, match=r"cannot write .*x\.mcap\.active': Input/output error"):
        spool.flush()
    with pytest.raises(StoreError, match="Input/output error"):
        spool.finish({})
    assert len(streamed(spool.path.read_bytes())) >= 1
    assert not spool.target.exists()
