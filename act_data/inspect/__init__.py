"""What is in a recording, for somebody who has nothing else: and a robot file that reads it.

    recording -> messages -> a look at each topic -> cards -> which presets fit, and a proposal

One pass over each recording. Memory is bounded by the number of topics, not by their messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

from act_data.errors import ConflictError, DataError, NotFoundError
from act_data.inspect.cards import (
    Inspection,
    PresetFit,
    Proposal,
    RecordingCard,
    TopicCard,
)
from act_data.inspect.proposal import propose
from act_data.inspect.topic import TopicLook
from act_data.robot import bind, load_robot, misses, parse_robot, preset_names
from act_data.sources import BagSource, Reading, Recording, find_recordings, open_recording
from act_data.store.files import write_whole
from act_data.sync.values import CAPACITY
from act_data.types import NS_PER_S, RobotSpec, TopicInfo

__all__ = [
    "Inspection",
    "Proposal",
    "RecordingCard",
    "TopicCard",
    "check_new",
    "inspect",
    "write_robot",
]

Progress = Callable[[int, int], None]

# Values kept for percentiles, over all topics of a recording: two lists of 16 bytes, 256 MiB.
_ALL_VALUES = 2**23
_LEAST_VALUES = 1024
_STEP = 1000  # messages between two calls of progress
_MAX_TOPICS = 4000  # of one recording that are looked at; a robot has hundreds


def inspect(
    sources: Sequence[Path],
    reading: Reading | None = None,
    *,
    progress: Progress = lambda done, total: None,
) -> Inspection:
    """Look into recordings, and propose a robot file that ingests the first one that can be read.

    A damaged recording is no error here: its card says what is wrong, what a recovery reads of it,
    and what to do. A robot is proposed for it where no recording is sound.

    Args:
        sources: Bags, folders of one recording, or folders of many.
        reading: What a person adds to how they are read.
        progress: Called with (messages done, messages expected) of each recording.

    Raises:
        NotFoundError: A path that does not exist, or no recording there.
        DataError: A file that is no recording.
    """
    looks = [_look(recording, progress) for recording in find_recordings(sources, reading)]
    cards = [card for card, _ in looks]
    usable = [look for look in looks if not look[0].damage]
    usable = usable or [look for look in looks if any(t.messages for t in look[0].topics)]
    return Inspection(recordings=tuple(cards), proposal=_proposal(usable) if usable else None)


def check_new(path: Path) -> None:
    """See, before a long look, that a robot file can be new at `path`.

    Raises:
        ConflictError: Something is there: it may have been edited.
        NotFoundError: Its folder does not exist.
    """
    if path.exists():
        raise ConflictError(f"{path} exists", hint="Name another file, or delete it first.")
    if not path.parent.is_dir():
        raise NotFoundError(f"no folder {str(path.parent)!r}", hint="Make it, or name another.")


def write_robot(found: Inspection, path: Path) -> Inspection:
    """Write the proposed robot to a new file; gives back what was found with that noted.

    Raises:
        ConflictError, NotFoundError: As `check_new`.
        DataError: Nothing can be proposed.
        StoreError: It cannot be written.
    """
    check_new(path)
    proposal = found.proposal
    if proposal is None:
        raise DataError(
            "nothing can be read of any recording, so there is no robot to write",
            hint=found.recordings[0].way_out,
        )
    if not proposal.yaml:
        reasons = "".join(f"\n  {why}" for why in proposal.why_none) or " it has no topic"
        raise DataError(
            f"{proposal.recording} holds nothing that a robot could be made of:{reasons}",
            hint="Record the topics of cameras, joint states and commands.",
        )
    scratch = path.with_name(f".{path.name}.partial")
    write_whole(path.parent, path.name, proposal.yaml.encode(), scratch)
    return found.model_copy(update={"written": str(path)})


def _look(
    recording: Recording, progress: Progress
) -> tuple[RecordingCard, Mapping[str, TopicInfo]]:
    """The card of a recording, and its topics as far as they could be read."""
    known: dict[str, object] = {
        "name": recording.name,
        "kind": recording.kind,
        "files": tuple(str(f) for f in recording.files),
        "bytes": sum(f.stat().st_size for f in recording.files if f.is_file()),
    }
    topics: Mapping[str, TopicInfo] = {}
    try:
        with open_recording(recording) as source:
            topics = source.topics
            known["presets"] = _presets(topics)
            _read(source, known, progress)
    except DataError as e:
        known |= {"damage": str(e), "way_out": e.hint}
        topics = _recovered(recording, known, progress) or topics
    return RecordingCard.model_validate(known), topics


def _recovered(
    recording: Recording, known: dict[str, object], progress: Progress
) -> Mapping[str, TopicInfo]:
    """The topics of what a recovery reads; fills in what was found. Empty when it reads nothing."""
    recovering = replace(recording, reading=replace(recording.reading, recover=True))
    try:
        with open_recording(recovering) as source:
            known["presets"] = _presets(source.topics)
            _read(source, known, progress)
            known["recovery"] = source.recoveries
            return source.topics
    except DataError:  # an empty file, or one of another kind: the damage says so
        return {}


def _read(source: BagSource, known: dict[str, object], progress: Progress) -> None:
    """One pass: fills in what was found, also when the pass ends at a damage.

    Raises:
        DataError: The recording is damaged.
    """
    topics = dict(islice(source.topics.items(), _MAX_TOPICS))
    values = max(_LEAST_VALUES, min(CAPACITY, _ALL_VALUES // max(1, len(topics)) // 2 * 2))
    expected = sum(t.count or 0 for t in topics.values())
    looks: dict[str, TopicLook] = {}
    first_ns = last_ns = done = 0
    try:
        for raw in source.messages(topics):
            first_ns = first_ns if done else raw.recv_ns
            look = looks.get(raw.topic)
            if look is None:
                look = looks[raw.topic] = TopicLook(topics[raw.topic], first_ns, values)
            look.seen(raw, source.deserialize)
            last_ns = raw.recv_ns
            done += 1
            if done % _STEP == 0:
                progress(done, max(done, expected))
    finally:
        for name, info in topics.items():
            looks.setdefault(name, TopicLook(info, first_ns, values))
        known |= {
            "start_ns": first_ns,
            "duration_s": (last_ns - first_ns) / NS_PER_S,
            "topics": tuple(looks[name].card(last_ns) for name in topics),
            "compression": source.compressions,
            "notes": (*source.notes, *_too_many(source.topics)),
        }


def _too_many(topics: Mapping[str, TopicInfo]) -> Iterator[str]:
    if len(topics) > _MAX_TOPICS:
        yield f"of {len(topics)} topics the first {_MAX_TOPICS} are shown"


def _presets(topics: Mapping[str, TopicInfo]) -> tuple[PresetFit, ...]:
    """How each preset fits, the one that reads most first."""
    fits = []
    for name, robot in _shipped().items():
        lacks = misses(robot, topics)
        reads = 0 if lacks else len(bind(robot, topics))
        fits.append(PresetFit(name=name, reads=reads, misses=lacks))
    return tuple(sorted(fits, key=lambda fit: (-fit.reads, len(fit.misses), fit.name)))


@cache
def _shipped() -> Mapping[str, RobotSpec]:
    return {name: load_robot(name) for name in preset_names()}


def _proposal(sound: Sequence[tuple[RecordingCard, Mapping[str, TopicInfo]]]) -> Proposal:
    """From the first recording for which there is one; the others may only make it milder."""

    def in_every(topic: TopicCard) -> bool:
        return all(
            (info := topics.get(topic.topic)) is not None and info.type == topic.type and info.count
            for _, topics in sound
        )

    made = propose(sound[0][0], in_every)
    for card, _ in sound[1:]:
        if made.yaml:
            break
        made = propose(card, in_every)
    if not made.yaml:
        return made
    robot = parse_robot("the proposal", made.yaml.encode())
    others = {card.name: lacks for card, topics in sound if (lacks := misses(robot, topics))}
    return made.model_copy(update={"others": others})
