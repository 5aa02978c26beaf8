"""What something was made of, and what was made of it: recording, episode, version, checkpoint.

recording -> episode -> version (and split) -> statistics -> checkpoint -> rollout
                           version -> next version, version -> version of a copy
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from act_data.check import open_ref
from act_data.curate.records import Lineage, LineageEdge, LineageNode, NodeKind
from act_data.curate.stores import (
    TRAINED_ON,
    Store,
    Stores,
    TrainedOn,
    TrainedVersion,
    checkpoints,
    parsed,
    trained_on,
)
from act_data.errors import NotFoundError
from act_data.records import EpisodeEntry
from act_data.sources import find_recordings, open_recording

_RECORDINGS = (".bag", ".db3", ".mcap", ".active")
_HEX = re.compile(r"[0-9a-f]{8,64}")

Fact = str | int | float | bool | tuple[str, ...] | None


def lineage(asked: str) -> Lineage:
    """Everything that `asked` was made of, and everything that was made of it.

    Args:
        asked: A recording (a path, or its sha256 or how that begins), an episode ("ds#e0123",
            "ds@2#7", or a uid or how one begins), a dataset version (a path, a name, or
            name@version), the folder of a checkpoint, or a JSON report that names one
            (`act-model deploy --json`).

    Raises:
        NotFoundError: Nothing of that name is known; says where it was looked for.
        StoreError: What it names is damaged.
        DataError: It is a recording that cannot be read.
    """
    walk = _Walk(asked)
    path = Path(asked)
    if (path / TRAINED_ON).is_file():
        walk.checkpoint(path.absolute(), trained_on(path))
    elif path.suffix == ".json" and path.is_file():
        walk.report(path)
    elif path.suffix in _RECORDINGS or (path / "metadata.yaml").is_file():
        walk.recordings(path)
    elif "#" in asked:
        walk.numbered(asked)
    elif not _HEX.fullmatch(asked) or not walk.hashed(asked):
        walk.dataset(asked)
    return walk.answer()


class _Report(BaseModel):
    model_config = ConfigDict(extra="ignore")

    checkpoint: str


class _Walk:
    def __init__(self, asked: str) -> None:
        self._asked = asked
        self._stores = Stores()
        self._notes = self._stores.notes
        self._checkpoints = dict(checkpoints())
        self._start: list[str] = []
        self._nodes: dict[str, LineageNode] = {}
        self._edges: dict[tuple[str, str, str], LineageEdge] = {}

    def answer(self) -> Lineage:
        return Lineage(
            asked=tuple(dict.fromkeys(self._start)),
            nodes=tuple(self._nodes.values()),
            edges=tuple(self._edges.values()),
            notes=tuple(dict.fromkeys(self._notes)),
        )

    # --- where a walk begins ---

    def checkpoint(self, folder: Path, data: TrainedOn) -> None:
        """Back from a checkpoint to the recordings it learned from."""
        self._start.append(self._trained(folder, data, whole=True))

    def report(self, file: Path) -> None:
        """Back from a rollout or an evaluation that names its checkpoint."""
        folder = Path(parsed(file, _Report).checkpoint)
        node = self._node("rollout", f"rollout:{file.absolute()}", str(file), {})
        self._start.append(node)
        if (folder / TRAINED_ON).is_file():
            made = self._trained(folder.absolute(), trained_on(folder), whole=True)
            self._edge(made, node, "rolled out")
        else:
            self._notes.append(f"the checkpoint {folder} is gone")

    def recordings(self, path: Path) -> None:
        """On from recordings to what was made of them; their bytes say which they are."""
        for recording in find_recordings([path]):
            with open_recording(recording) as source:
                told = source.record(tuple(source.topics))
            if not self._from_recordings(told.sha256):
                raise NotFoundError(
                    f"no episode of a registered dataset was made of {told.name!r} "
                    f"(sha256 {told.sha256})",
                    hint="Register the dataset first: act-data rebuild DATASET.",
                )

    def hashed(self, text: str) -> bool:
        """From a recording's sha256 or an episode's uid, or how one begins; False for none."""
        found = self._from_recordings(text)
        for store, entry, _ in self._stores.called(text):
            self._episode(store, entry)
            found = True
        return found

    def numbered(self, asked: str) -> None:
        """From an episode of a dataset: "ds#3" or "ds@2#e0123"."""
        ref, _, which = asked.rpartition("#")
        store, number = self._store(ref)
        episodes = store.versions[number].episodes
        found = [
            entry
            for place, entry in enumerate(episodes)
            if entry.uid == which or (which.isdecimal() and int(which) == place)
        ]
        if not found:
            raise NotFoundError(
                f"{ref!r} has no episode {which!r}", hint=f"It has {len(episodes)}, from 0."
            )
        self._episode(store, found[0])
        self._of_same_content(found[0])

    def dataset(self, ref: str) -> None:
        """From a version: back to its recordings, on to its checkpoints."""
        store, number = self._store(ref)
        self._start.append(self._whole_version(store, number))
        self._onward(store, number)

    # --- walking ---

    def _store(self, ref: str) -> tuple[Store, int]:
        try:
            reader = open_ref(ref)
        except NotFoundError as e:
            raise NotFoundError(
                f"{ref!r} is no recording, episode, dataset or checkpoint that is known: {e}",
                hint="Name a path, a registered name, a sha256 or a uid (8 digits or more).",
            ) from None
        return self._stores.add(reader), reader.version.number

    def _from_recordings(self, sha256: str) -> bool:
        made = self._stores.made_of(sha256)
        for store, entry, recording in made:
            self._episode(store, entry, asked=False)
            self._start.append(f"recording:{recording}")
        return bool(made)

    def _episode(self, store: Store, entry: EpisodeEntry, *, asked: bool = True) -> None:
        """An episode, what it was made of, and every version that holds it and what follows."""
        node = self._origin(store, entry)
        if asked:
            self._start.append(node)
        for number, version in store.versions.items():
            for other in version.episodes:
                if (other.uid, other.hash) == (entry.uid, entry.hash):
                    self._edge(node, self._version(store, number), f"split {other.split}")
                    self._onward(store, number, of=entry.uid)

    def _of_same_content(self, entry: EpisodeEntry) -> None:
        """An episode in every dataset that has it."""
        for store, other, _ in self._stores.called(entry.uid):
            if (other.uid, other.hash) == (entry.uid, entry.hash):
                self._episode(store, other, asked=False)

    def _origin(self, store: Store, entry: EpisodeEntry) -> str:
        """An episode and the recording that it came from."""
        record = store.record(entry)
        facts: dict[str, Fact] = {"hash": entry.hash, "steps": entry.length, "dataset": store.name}
        if record is not None and record.info.segment is not None:
            part = record.info.segment
            facts |= {"segment": part.number, "start_ns": part.start_ns, "end_ns": part.end_ns}
        node = self._node("episode", f"episode:{store.uid}/{entry.uid}", entry.uid, facts)
        if record is None:
            self._notes.append(f"the record of episode {entry.uid} is gone with a dropped version")
            return node
        source = record.info.source
        told: dict[str, Fact] = {
            "kind": source.kind,
            "sha256": source.sha256,
            "files": source.files,
            "topics": source.topics,
            "start_ns": source.start_ns,
            "end_ns": source.end_ns,
        }
        made = self._node("recording", f"recording:{source.sha256}", source.name, told)
        self._edge(made, node, "ingested")
        return node

    def _version(self, store: Store, number: int) -> str:
        version = store.versions[number]
        facts: dict[str, Fact] = {
            "content_hash": version.content_hash,
            "episodes": len(version.episodes),
            "steps": sum(entry.length for entry in version.episodes),
            "created": version.created,
            "message": version.message,
            "path": str(store.reader.path),
        }
        label = f"{store.name}@v{number}"
        node = self._node("version", f"version:{store.uid}@{number}", label, facts)
        for origin in version.made_from:
            self._edge(self._named(origin.name, origin), node, "copied")
        return node

    def _named(self, name: str, of: TrainedVersion | object) -> str:
        """A version that something names, whether or not its dataset is here."""
        told = TrainedVersion.model_validate(of, from_attributes=True)
        store = self._stores.of(told.uid)
        if store is not None and told.version in store.versions:
            there = store.versions[told.version]
            if there.content_hash == told.content_hash:
                return self._version(store, told.version)
            self._notes.append(
                f"{store.name}@v{told.version} is not what it was: its content is "
                f"{there.content_hash[:12]}, named is {told.content_hash[:12]}"
            )
        else:
            self._notes.append(f"the dataset at {told.path} (version {told.version}) is not here")
        facts: dict[str, Fact] = {"content_hash": told.content_hash, "path": told.path}
        label = f"{name}@v{told.version}"
        return self._node("version", f"version:{told.uid}@{told.version}", label, facts)

    def _whole_version(self, store: Store, number: int) -> str:
        """A version with every episode and recording behind it, and the versions it was made of."""
        node = self._version(store, number)
        for entry in store.versions[number].episodes:
            self._edge(self._origin(store, entry), node, f"split {entry.split}")
        parent = store.versions[number].parent
        if parent is not None and parent in store.versions:
            self._edge(self._version(store, parent), node, "next version")
        return node

    def _onward(self, store: Store, number: int, of: str | None = None) -> None:
        """What was made of a version: the next one, copies, checkpoints.

        Args:
            of: Only what the episode of this uid came into.
        """
        node = self._version(store, number)
        following = store.versions.get(number + 1)
        if following is not None and of is None:
            self._edge(node, self._version(store, number + 1), "next version")
        for other in self._stores.sharing(store):
            for copy, version in other.versions.items():
                came = {(o.uid, o.version) for o in version.made_from}
                if of is not None and of not in {e.uid for e in version.episodes}:
                    continue
                if (store.uid, number) in came and other.uid != store.uid:
                    self._version(other, copy)
                    if of is None:
                        self._onward(other, copy)
        for folder, data in self._checkpoints.items():
            named = {(d.uid, d.version) for d in (data, *data.cotrained)}
            if (store.uid, number) in named:
                self._trained(folder, data, whole=False)

    def _trained(self, folder: Path, data: TrainedOn, *, whole: bool) -> str:
        """A checkpoint and the versions it was trained on; with everything behind if `whole`."""
        facts: dict[str, Fact] = {"train": len(data.train), "val": len(data.val)}
        node = self._node("checkpoint", f"checkpoint:{folder}", str(folder), facts)
        for said, how in ((data, "trained"), *((c, "co-trained") for c in data.cotrained)):
            version = self._named(Path(said.path).stem, said)
            self._edge(version, node, how)
            store = self._stores.of(said.uid)
            if store is None or said.version not in store.versions:
                continue
            there = store.versions[said.version]
            if whole and there.content_hash == said.content_hash:
                self._whole_version(store, said.version)
        if (folder / "stats.json").is_file():
            version = f"version:{data.uid}@{data.version}"
            stats = self._node("stats", f"stats:{folder}", "statistics, train split", {})
            self._edge(version, stats, "computed")
            self._edge(stats, node, "trained")
        return node

    # --- the graph ---

    def _node(self, kind: NodeKind, id_: str, label: str, facts: dict[str, Fact]) -> str:
        self._nodes.setdefault(id_, LineageNode(id=id_, kind=kind, label=label, facts=facts))
        return id_

    def _edge(self, of: str, to: str, how: str) -> None:
        self._edges.setdefault((of, to, how), LineageEdge(of=of, to=to, how=how))
