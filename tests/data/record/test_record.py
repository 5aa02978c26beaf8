"""A recording session: what is recorded, what ends it, and what becomes of each episode."""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from time import sleep, time_ns

import pytest

from act_data.errors import DataError, StoreError
from act_data.ingest import IngestSettings, ingest
from act_data.record import (
    Command,
    Nobody,
    Phase,
    RecordReport,
    RecordSettings,
    State,
    Stop,
    Verdict,
    record,
    session,
)
from act_data.sources import find_recordings, open_recording
from act_data.sources.live import Arrival, Inbox, MemoryBackend, ReplayBackend, Spool
from act_data.store import open_dataset
from tests.bags import Entry
from tests.live_topics import Endless, channel, channels, payloads
from tests.small_robot import HZ, ROBOT, S, bag, entries, robot_file


class Person(Nobody):
    """An operator who ends each episode after some steps, and has decided what becomes of it.

    Args:
        after: Steps.
        verdicts: In reviews; afterwards to save.
        ends: What ends an episode; the last one for all others, too.
    """

    reviews = True

    def __init__(
        self, after: int, *verdicts: Command, ends: Sequence[Command] = (Command.GO_ON,)
    ) -> None:
        super().__init__()
        self.seen: list[State] = []
        self._after = after
        self._ends = list(ends)
        self._verdicts = list(verdicts)
        self._at = (Phase.WAITING, "")
        self._said_so = False

    def show(self, state: State) -> None:
        self.seen.append(state)
        if (state.phase, state.episode) != self._at:
            self._at, self._said_so = (state.phase, state.episode), False
        if self._said_so:
            return
        if state.phase is Phase.RECORDING and state.steps >= self._after:
            self._said_so = True
            self.say(self._ends.pop(0) if self._ends[1:] else self._ends[0])
        elif state.phase is Phase.REVIEW:
            self._said_so = True
            self.say(self._verdicts.pop(0) if self._verdicts else Command.SAVE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A robot, and 20 s of it."""
    folder = tmp_path_factory.mktemp("record")
    robot_file(folder)
    # No two at one time: a replay would move the second by 1 ns.
    bag(folder, "way", [(t, k, ns + 5 * (t == "/lead"), v) for t, k, ns, v in entries(600)])
    return folder


def pedal(i: int) -> list[Entry]:
    """A pedal that says something twice a second, and is down every four seconds."""
    return [("/pedal", "std_msgs/msg/Bool", 0, {"data": i % 120 == 105})] * (i % 15 == 0)


def session_of(
    backend: MemoryBackend | ReplayBackend,
    folder: Path,
    out: Path,
    person: Nobody | None = None,
    **settings: object,
) -> RecordReport:
    given = RecordSettings.model_validate({"robot": str(folder / "small.yaml"), **settings})
    with closing(backend):
        return record(backend, out, given, operator=person)


def recorded(
    folder: Path, out: Path, person: Nobody | None = None, **settings: object
) -> RecordReport:
    """A session with a robot that never ends."""
    return session_of(Endless(more=pedal), folder, out, person, **settings)


def replayed(folder: Path, out: Path, speed: float, **settings: object) -> RecordReport:
    """A session with the recording."""
    return session_of(ReplayBackend(folder / "way.bag", speed=speed), folder, out, **settings)


def messages(path: str | Path) -> list[tuple[int, str, bytes]]:
    with open_recording(find_recordings([Path(path)])[0]) as source:
        return [(r.recv_ns, r.topic, bytes(r.payload)) for r in source.messages(source.topics)]


def steps(path: Path, folder: Path, out: Path) -> list[int]:
    settings = IngestSettings(robot=str(folder / "small.yaml"))
    return [e.steps for e in ingest([path], out, settings).episodes]


def test_an_episode_holds_every_message_from_its_start_to_the_end(
    folder: Path, tmp_path: Path
) -> None:
    report = replayed(folder, tmp_path / "bags", 20.0, topics=("/nobody",), task="pick")
    (episode,) = report.episodes
    assert episode.verdict is Verdict.SAVED
    assert episode.stop is Stop.SOURCE_ENDED
    found = messages(episode.file)
    sent = messages(folder / "way.bag")
    assert found == sent[-len(found) :]
    topics = ("/arm", "/lead", "/cam/image_raw")
    assert episode.messages == {t: sum(m[1] == t for m in found) for t in topics}
    assert episode.bytes == Path(episode.file).stat().st_size
    assert report.saved == 1
    assert report.lossless
    assert steps(Path(episode.file), folder, tmp_path / "ds.zarr") == [episode.steps]


def test_an_episode_ends_with_the_message_that_completes_it_and_the_next_one_begins(
    folder: Path, tmp_path: Path
) -> None:
    report = recorded(folder, tmp_path / "bags", max_timesteps=90, episodes=3, task='ä: "x"\\')
    names = [Path(e.file).name for e in report.episodes]
    assert names == ["episode-000.mcap", "episode-001.mcap", "episode-002.mcap"]
    assert [(e.steps, e.stop) for e in report.episodes] == [(90, Stop.MAX_TIMESTEPS)] * 3
    # Frames that still wait for a late sample would leave at the end; nobody asked for them.
    out = tmp_path / "ds.zarr"
    assert steps(tmp_path / "bags", folder, out) == [90, 90, 90]
    dataset = open_dataset(out)
    assert len(dataset.episodes) == 3, "one recording for each episode"


def test_an_episode_ends_too_where_the_step_that_completes_it_is_not_valid(
    folder: Path, tmp_path: Path
) -> None:
    """Its length grows by ten steps at a time: it is never exactly as long as it may be."""
    robot = Endless(silent=lambda i: ("/cam/image_raw",) if i % 10 else ())
    report = session_of(robot, folder, tmp_path / "bags", max_timesteps=45, episodes=2)
    assert [(e.steps, e.stop) for e in report.episodes] == [(45, Stop.MAX_TIMESTEPS)] * 2
    assert all(sum(e.messages.values()) < 2 * 80 for e in report.episodes)
    assert steps(tmp_path / "bags", folder, tmp_path / "ds.zarr") == [45, 45]


def test_what_was_said_of_an_episode_goes_into_the_dataset(folder: Path, tmp_path: Path) -> None:
    said = {"task": 'pour "tea"\\ 茶 \x85', "operator": "Ada", "success": True, "notes": "a: b #c"}
    recorded(folder, tmp_path / "bags", max_timesteps=60, episodes=1, **said)
    steps(tmp_path / "bags", folder, tmp_path / "ds.zarr")
    dataset = open_dataset(tmp_path / "ds.zarr")
    info = dataset.episode(dataset.episodes[0].uid).info
    assert {key: getattr(info, key) for key in said} == said


@pytest.mark.parametrize(
    ("commands", "verdicts"),
    [
        pytest.param(["save", "quit"], ["saved", "saved"], id="save-then-quit"),
        pytest.param(["go on", "quit"], ["saved", "saved"], id="go-on-saves"),
        pytest.param(["discard", "quit"], ["discarded", "saved"], id="discard"),
        pytest.param(["redo", "quit"], ["redone", "saved"], id="redo"),
        pytest.param(["failure", "quit"], ["saved", "saved"], id="failure"),
    ],
)
def test_the_last_episode_is_saved_discarded_or_redone_as_the_operator_says(
    folder: Path, tmp_path: Path, commands: list[str], verdicts: list[str]
) -> None:
    report = recorded(folder, tmp_path, Person(30, *map(Command, commands)))
    assert [e.verdict.value for e in report.episodes] == verdicts
    assert {e.stop for e in report.episodes} == {Stop.OPERATOR}
    kept = [e for e in report.episodes if e.verdict is Verdict.SAVED]
    # No number is used twice: somebody may still read what was discarded.
    names = [f"episode-{n:03d}.mcap" for n, verdict in enumerate(verdicts) if verdict == "saved"]
    assert [Path(e.file).name for e in kept] == names
    assert sorted(p.name for p in tmp_path.glob("*.mcap*")) == names
    failed = commands[0] == "failure"
    assert report.episodes[0].success is (False if failed else None)
    assert [p.name for p in tmp_path.glob("*.yaml")] == ["episode-000.yaml"] * failed


def test_a_verdict_given_while_an_episode_is_recorded_ends_it_and_counts(
    folder: Path, tmp_path: Path
) -> None:
    person = Person(30, ends=[Command.REDO, Command.DISCARD, Command.FAILURE, Command.QUIT])
    report = recorded(folder, tmp_path, person)
    assert [e.verdict.value for e in report.episodes] == ["redone", "discarded", "saved", "saved"]
    assert [e.success for e in report.episodes] == [None, None, False, None]
    assert Phase.REVIEW not in {s.phase for s in person.seen}, "asked again"


def test_topics_start_and_end_episodes_without_a_hand_on_the_keyboard(
    folder: Path, tmp_path: Path
) -> None:
    report = recorded(folder, tmp_path, start_by="/pedal", stop_by="/pedal", episodes=2)
    assert [e.stop for e in report.episodes] == [Stop.TOPIC, Stop.TOPIC]
    down = [105 + 120 * n for n in range(100)]  # frames at which the pedal goes down
    for episode in report.episodes:
        found = messages(episode.file)
        ends = [(t - S) * HZ // S for t, topic, data in found
                if topic == "/pedal" and data[4:5] == b"\1"]  # fmt: skip
        assert len(ends) == 1, "none at its start, one at its end"
        assert ends[0] in down
        first = (found[0][0] - S) * HZ // S
        assert ends[0] - 120 <= first < ends[0]


def test_a_countdown_passes_before_an_episode_and_a_key_ends_it_early(
    folder: Path, tmp_path: Path
) -> None:
    person = Person(30)
    person.say(Command.SAVE)  # means nothing yet
    recorded(folder, tmp_path, person, countdown_s=0.5, episodes=1)
    left = [s.countdown_s for s in person.seen if s.phase is Phase.READY and s.countdown_s]
    assert 0.3 < max(left) <= 0.5
    assert min(left) < 0.2

    class Impatient(Person):
        def show(self, state: State) -> None:
            super().show(state)
            if state.phase is Phase.READY:
                self.say(Command.GO_ON)

    impatient = Impatient(30, Command.QUIT)
    report = recorded(folder, tmp_path, impatient, countdown_s=3600)
    assert report.saved == 1


def test_what_the_robot_lacks_is_told_until_the_time_is_up(folder: Path, tmp_path: Path) -> None:
    way = [e for e in entries(3) if e[0] != "/lead"]
    with pytest.raises(DataError, match=r"after 0\.3 s .* missing:\n  lead: /lead") as caught:
        record(
            MemoryBackend(channels(way)),
            tmp_path,
            RecordSettings(robot=str(folder / "small.yaml"), wait_s=0.3),
        )
    assert "--wait-s" in caught.value.hint
    silent = MemoryBackend(channels(entries(3)))
    with pytest.raises(DataError, match=r"/cam/image_raw: no message yet\n  /arm: no message"):
        record(silent, tmp_path, RecordSettings(robot=str(folder / "small.yaml"), wait_s=0.3))
    assert list(tmp_path.iterdir()) == []


class Live:
    """The small robot publishing in this process, at its own pace, until it is told to end."""

    def __init__(self, *extra: Entry, hz: float = 100.0, frames: int = 10**6) -> None:
        self.backend = MemoryBackend(channels([*entries(1), *extra]))
        self._extra = extra
        self._hz = hz
        self._frames = frames
        self._end = Event()
        self._thread = Thread(target=self._publish)

    def _publish(self) -> None:
        for topic, type_, _, values in self._extra:
            for _, _, payload in payloads([(topic, type_, 0, values)]):
                self.backend.publish(topic, payload)
        for _ in range(self._frames):
            for _, topic, payload in payloads(entries(1, start_s=time_ns() / S)):
                self.backend.publish(topic, payload)
            if self._end.wait(1 / self._hz):
                break
        self.backend.end()

    def __enter__(self) -> MemoryBackend:
        subscribe = self.backend.subscribe

        def subscribed(topics: Collection[str], inbox: Inbox) -> None:
            subscribe(topics, inbox)
            self._thread.start()

        self.backend.subscribe = subscribed  # type: ignore[method-assign]
        return self.backend

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._thread.ident:
            self._thread.join()


def test_a_source_that_ends_before_everything_was_there_is_an_error(
    folder: Path, tmp_path: Path
) -> None:
    settings = RecordSettings(robot=str(folder / "small.yaml"))
    with (
        Live(frames=0) as backend,
        pytest.raises(DataError, match="memory ended before an episode could begin:\n"),
    ):
        record(backend, tmp_path / "bags", settings)
    assert list((tmp_path / "bags").iterdir()) == []


def test_optional_topics_are_recorded_once_they_were_heard_and_others_when_they_are_asked_for(
    tmp_path: Path,
) -> None:
    text = ROBOT.replace(
        "arrays:",
        "  wrist: {topic: /wrist, kind: image, required: false}\n"
        "  depth: {topic: /depth, kind: depth, required: false}\narrays:",
    )
    robot = robot_file(tmp_path, text)
    latched: Entry = ("/tf", "std_msgs/msg/Int8MultiArray", 0, {})
    heard: Entry = ("/wrist", "sensor_msgs/msg/Image", 0, {})
    with Live(latched, heard) as backend:
        backend._channels["/depth"] = channel("/depth", "sensor_msgs/msg/Image")
        report = record(
            backend,
            tmp_path,
            RecordSettings(robot=str(robot), episodes=1, max_timesteps=1, topics=("/tf",)),
        )
    (episode,) = report.episodes
    assert set(episode.messages) == {"/arm", "/lead", "/cam/image_raw", "/wrist", "/tf"}


def test_what_comes_faster_than_it_can_be_written_is_counted_by_topic(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Spool.write

    def slowly(self: Spool, arrival: Arrival) -> None:
        sleep(0.002)
        write(self, arrival)

    monkeypatch.setattr(Spool, "write", slowly)
    monkeypatch.setattr(session, "Inbox", lambda: Inbox(60_000))
    report = replayed(folder, tmp_path, 100.0)
    (episode,) = report.episodes
    assert not report.lossless
    assert episode.lost["/cam/image_raw"] > 0
    found = messages(episode.file)
    first = found[0][0]
    sent = [m for m in messages(folder / "way.bag") if m[0] >= first]
    for topic in ("/cam/image_raw", "/arm", "/lead"):
        counted = sum(m[1] == topic for m in found)
        assert counted == episode.messages[topic]
        assert counted + episode.lost.get(topic, 0) == sum(m[1] == topic for m in sent)
    assert any("messages lost" in note for note in episode.notes)


def test_a_message_that_cannot_be_read_ends_the_session_with_all_that_came_before(
    folder: Path, tmp_path: Path
) -> None:
    with Live() as backend:

        def spoil(state: State) -> None:
            if state.phase is Phase.RECORDING and state.ticks > 10:
                backend.publish("/arm", b"\0\1")

        person = Nobody()
        person.show = spoil  # type: ignore[method-assign]
        settings = RecordSettings(robot=str(folder / "small.yaml"))
        report = record(backend, tmp_path, settings, operator=person)
    (episode,) = report.episodes
    assert "episode-000: the message of '/arm'" in report.error
    assert report.hint
    assert (episode.verdict, episode.stop) == (Verdict.SAVED, Stop.FAILED)
    assert episode.sync is None
    with open_recording(find_recordings([Path(episode.file)])[0]) as source:
        counts = {t.name: t.count for t in source.topics.values()}
    assert counts == episode.messages


def test_a_disk_that_fails_ends_the_session_and_leaves_the_file_for_recovery(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Live() as backend:

        def break_(state: State) -> None:
            if state.phase is Phase.RECORDING and state.ticks > 10:
                monkeypatch.setattr("os.fdatasync", fails)

        person = Nobody()
        person.show = break_  # type: ignore[method-assign]
        settings = RecordSettings(robot=str(folder / "small.yaml"))
        report = record(backend, tmp_path, settings, operator=person)
    (episode,) = report.episodes
    assert "Input/output error" in report.error
    assert episode.file.endswith("episode-000.mcap.active")
    assert Path(episode.file).stat().st_size > 10_000


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_waited_for(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot record to"):
        recorded(folder, tmp_path / "file")


def test_numbers_go_on_after_those_of_unfinished_recordings_and_of_annotations(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "episode-004.mcap.active").write_bytes(b"")
    (tmp_path / "episode-007.yaml").write_text("task: x\n")
    report = recorded(folder, tmp_path, episodes=1, max_timesteps=1)
    assert Path(report.episodes[0].file).name == "episode-008.mcap"
