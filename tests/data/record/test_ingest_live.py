"""A dataset written while its episodes are recorded is that of its recordings afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from act_data.errors import InputError
from act_data.ingest import IngestSettings, ingest
from act_data.record import (
    Command,
    LiveIngestReport,
    Nobody,
    Phase,
    RecordSettings,
    State,
    ingest_live,
)
from act_data.store import open_dataset
from tests.bags import Entry
from tests.live_topics import Endless
from tests.small_robot import IMAGE, JOINTS, ROBOT, joints, picture, robot_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small robot, and with an optional camera."""
    folder = tmp_path_factory.mktemp("live")
    robot_file(folder)
    optional = ROBOT.replace("streams:", "streams:\n  other: {topic: /o, kind: image, required: "
                             "false}").replace("arrays:", "arrays:\n  images/other: "
                             "{role: observation, from: other}")  # fmt: skip
    robot_file(folder, optional, "optional.yaml")
    return folder


class Person(Nobody):
    """Ends each episode after some steps and says what becomes of it; then quits."""

    reviews = True

    def __init__(self, *verdicts: Command, after: int = 45) -> None:
        super().__init__()
        self._verdicts = list(verdicts)
        self._after = after
        self._at = (Phase.WAITING, "")
        self._said_so = False

    def show(self, state: State) -> None:
        if (state.phase, state.episode) != self._at:
            self._at, self._said_so = (state.phase, state.episode), False
        if self._said_so:
            return
        heard = any(topic.count for topic in state.topics)
        if state.phase is Phase.RECORDING and state.steps >= self._after and heard:
            self._said_so = True
            self.say(Command.GO_ON)
        elif state.phase is Phase.REVIEW:
            self._said_so = True
            self.say(self._verdicts.pop(0) if self._verdicts else Command.QUIT)


def session(
    folder: Path,
    out: Path,
    person: Nobody | None = None,
    *,
    robot: str = "small.yaml",
    robot_side: Endless | None = None,
    record: dict[str, object] | None = None,
    **settings: object,
) -> LiveIngestReport:
    asked = RecordSettings.model_validate({"robot": str(folder / robot), **(record or {})})
    with closing(robot_side or Endless()) as backend:
        return ingest_live(
            backend,
            out,
            out.with_name("spool"),
            asked,
            IngestSettings.model_validate(settings),
            operator=person,
        )


def same_afterwards(
    folder: Path, report: LiveIngestReport, robot: str = "small.yaml", **settings: object
) -> None:
    """See that ingesting the recordings afterwards gives the same version."""
    live = report.ingest
    assert live is not None, report.error
    spool = Path(report.record.folder)
    again = spool.with_name("again").with_suffix(Path(live.dataset).suffix)
    given = IngestSettings.model_validate({"robot": str(folder / robot), **settings})
    offline = ingest([spool], again, given)
    assert live.content_hash == offline.content_hash
    assert [e.uid for e in live.episodes] == [e.uid for e in offline.episodes]
    one, other = open_dataset(Path(live.dataset)), open_dataset(again)
    for uid in (e.uid for e in live.episodes):
        a, b = one.episode(uid), other.episode(uid)
        assert (a.hash, a.length, a.info) == (b.hash, b.length, b.info)
    assert one.verify() == []


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="as-it-comes"),
        pytest.param({"sync": "nearest", "fps": 20, "codec": "zstd", "action_shift": 2,
                      "latency_ms": 100}, id="other-settings"),
        pytest.param({"gap": "cut"}, id="cut-at-gaps"),
        pytest.param({"split_by": ("silence:1",)}, id="split"),
    ],
)  # fmt: skip
def test_the_version_is_that_of_ingesting_the_recordings_afterwards(
    folder: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    person = Person(Command.SAVE, Command.REDO, Command.FAILURE, Command.DISCARD)
    report = session(folder, tmp_path / "ds.zarr", person, record={"task": "pick"}, **settings)
    assert [e.verdict.value for e in report.record.episodes] == [
        "saved", "redone", "saved", "discarded", "saved"
    ]  # fmt: skip
    same_afterwards(folder, report, **settings)
    dataset = open_dataset(tmp_path / "ds.zarr")
    infos = [dataset.episode(e.uid).info for e in dataset.episodes]
    assert [(i.task, i.success) for i in infos] == [("pick", None), ("pick", False), ("pick", None)]
    assert dataset.version.number == 1


def test_aloha_files_are_written_while_they_are_recorded_too(folder: Path, tmp_path: Path) -> None:
    report = session(folder, tmp_path / "ds", Person(Command.SAVE))
    same_afterwards(folder, report)
    assert sorted(p.name for p in (tmp_path / "ds").glob("*.hdf5")) == [
        "episode_0.hdf5", "episode_1.hdf5",
    ]  # fmt: skip


def test_a_topic_that_fell_silent_before_an_episode_is_missing_from_it_live_and_afterwards(
    folder: Path, tmp_path: Path
) -> None:
    # Heard while it was waited for, and never again: what a recording without it would be.
    def other(i: int) -> list[Entry]:
        go: Entry = ("/go", "std_msgs/msg/Bool", 0, {"data": False})
        return [go, *[("/o", IMAGE, 0, picture(i))] * (i < 20)]

    class Patient(Person):
        def show(self, state: State) -> None:
            super().show(state)
            counts = {topic.topic: topic.count for topic in state.topics}
            if state.phase is Phase.READY and counts["/arm"] > 30:
                self.say(Command.GO_ON)

    report = session(
        folder,
        tmp_path / "ds.zarr",
        Patient(Command.QUIT),
        robot="optional.yaml",
        robot_side=Endless(more=other),
        record={"start_by": "/go"},
    )
    (episode,) = report.record.episodes
    assert episode.messages["/o"] == 0
    same_afterwards(folder, report, "optional.yaml")
    assert "images/other" not in {
        f.name for f in open_dataset(tmp_path / "ds.zarr").schema.features
    }


def test_a_dataset_that_cannot_be_written_costs_no_recording(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ds.zarr").mkdir()
    (tmp_path / "ds.zarr" / "mine").write_text("precious")
    report = session(folder, tmp_path / "ds.zarr", Person(Command.SAVE, Command.SAVE))
    assert report.ingest is None
    assert "is not an act-zarr dataset" in report.error
    assert f"act-data ingest {tmp_path / 'spool'}" in report.hint
    assert report.record.saved == 3
    assert len(list((tmp_path / "spool").glob("*.mcap"))) == 3
    assert (tmp_path / "ds.zarr" / "mine").read_text() == "precious"


def test_a_recording_that_cannot_become_an_episode_does_not_stop_the_others(
    folder: Path, tmp_path: Path
) -> None:
    def odd(i: int) -> list[Entry]:
        return [("/arm", JOINTS, 0, joints(i, ["a", "c"]))] * (i < 120)

    person = Person(*[Command.SAVE] * 4)
    report = session(folder, tmp_path / "ds.zarr", person, robot_side=Endless(more=odd))
    assert report.ingest is not None
    failed = {f.recording: f.error for f in report.ingest.failed}
    good = {e.recording for e in report.ingest.episodes}
    assert "episode-000" in failed
    assert "no joint 'b'" in failed["episode-000"], failed
    assert good
    assert good | failed.keys() == {Path(e.file).stem for e in report.record.episodes}


def test_a_session_of_which_nothing_can_be_ingested_says_why(folder: Path, tmp_path: Path) -> None:
    report = session(folder, tmp_path / "ds.zarr", Person(after=0), robot_side=Endless(pace=0.3))
    assert report.ingest is None
    assert "episode-000: no usable step" in report.error
    assert not (tmp_path / "ds.zarr").exists()


def test_one_file_for_several_episodes_is_refused_before_the_first(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="holds exactly one episode"):
        session(folder, tmp_path / "ds.hdf5")
    assert list(tmp_path.iterdir()) == []


RECORDER = """
import sys
from contextlib import closing
from pathlib import Path
from act_data.ingest import IngestSettings
from act_data.record import RecordSettings, ingest_live
from tests.live_topics import Endless

if __name__ == "__main__":
    folder, out = map(Path, sys.argv[1:])
    with closing(Endless()) as backend:
        settings = RecordSettings(robot=str(folder / "small.yaml"), max_timesteps=45, episodes=6)
        report = ingest_live(backend, out, out.with_name("spool"), settings, IngestSettings())
        print(report.error, report.hint)
"""


def command_of(process: int) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()


@pytest.mark.parametrize("victim", ["recorder", "writer"])
def test_whoever_is_killed_the_finished_recordings_and_episodes_stay(
    folder: Path, tmp_path: Path, victim: str
) -> None:
    script = tmp_path / "recorder.py"
    script.write_text(RECORDER)
    out = tmp_path / "ds.zarr"
    spool = tmp_path / "spool"
    with subprocess.Popen(
        [sys.executable, script, folder, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        while len(list(spool.glob("*.mcap"))) < 3:
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.02)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        writers = [
            int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()
        ]
        (writer,) = writers
        os.kill(process.pid if victim == "recorder" else writer, signal.SIGKILL)
        said, _ = process.communicate(timeout=60)
    while Path(f"/proc/{writer}").exists() and victim == "recorder":
        time.sleep(0.02)
    recordings = sorted(spool.glob("*.mcap"))
    if victim == "recorder":
        assert len(recordings) >= 3
    else:
        assert len(recordings) == 6, "the recorder went on"
        assert "the process that writes the dataset was killed" in said
        assert f"act-data ingest {spool} --out {out}" in said
    again = ingest(recordings, out, IngestSettings(robot=str(folder / "small.yaml")))
    whole = ingest(
        recordings, tmp_path / "new.zarr", IngestSettings(robot=str(folder / "small.yaml"))
    )
    assert {e.uid for e in again.episodes} == {e.uid for e in whole.episodes}
    if victim == "recorder":
        assert sum(e.found for e in again.episodes) >= 2, "the writer made them visible at the end"
    assert open_dataset(out).verify() == []
