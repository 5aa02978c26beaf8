"""Remotes that lie: anything in them is changed, and all digests above it are made to fit again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from act_data.store import layout
from act_data.store.hashing import canonical_json

Json = Any
Edit = Callable[[Json], None]
TITLE = "org.opencontainers.image.title"


class Forger:
    """The remote in the folder `team` that holds the dataset `ds`, in the hands of an attacker."""

    def __init__(self, team: Path) -> None:
        self.team = team

    @property
    def ref(self) -> Path:
        return self.team / "refs/ds/latest.json"

    def manifest(self, digest: str) -> Path:
        return self.team / "manifests" / f"{digest.removeprefix('sha256:')}.json"

    def blob(self, digest: str) -> Path:
        hexes = digest.removeprefix("sha256:")
        return self.team / "blobs/sha256" / hexes[:2] / hexes

    def shard(self) -> tuple[Path, Json]:
        """A blob that is the first part of a picture shard, and its layer."""
        version = self._load(self.manifest(self._load(self.ref)["digest"]))
        episode = self._load(self.manifest(version["manifests"][0]["digest"]))
        layer = next(x for x in episode["layers"] if "images" in x["annotations"][TITLE])
        return self.blob(layer["digest"]), layer

    def put(self, data: bytes) -> tuple[str, int]:
        """A blob with this content: its digest and size."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blob(digest).parent.mkdir(parents=True, exist_ok=True)
        self.blob(digest).write_bytes(data)
        return digest, len(data)

    def forge(
        self,
        *,
        record: Edit | None = None,
        record_bytes: Callable[[bytes], bytes] | None = None,
        episode: Edit | None = None,
        told: Edit | None = None,
        root: Edit | None = None,
        version: Edit | None = None,
        version_bytes: Callable[[bytes], bytes] | None = None,
        ref: Edit | None = None,
        resign: bool = True,
    ) -> None:
        """Change what `latest` leads to.

        Args:
            record: Edits the record of the first episode.
            episode: Edits the manifest of the first episode.
            told: Edits the record of the newest version.
            root: Edits the root record.
            version: Edits the manifest of the version.
            resign: Whether content hashes are computed anew, too.
        """
        reference = self._load(self.ref)
        whole = self._load(self.manifest(reference["digest"]))
        link = whole["manifests"][0]
        one = self._load(self.manifest(link["digest"]))
        uid = link["annotations"]["uid"]
        if record or record_bytes:
            key = layout.episode_key(uid)
            self._document(one, key, "act_episode", record, record_bytes)
            link["annotations"]["record"] = one["layers"][0]["digest"]
        if episode:
            episode(one)
        link["digest"], link["size"] = self._manifest(_rendered(one))
        if root:
            self._document(whole, "zarr.json", "act", root)
        number = reference["version"]
        if told or root:
            for n in range(1, number + 1):
                edits = [told] if told and n == number else []
                if resign:
                    edits.append(lambda value: _resign(value, self._root(whole)))
                for edit in edits:
                    self._document(whole, layout.version_key(n), "act_version", edit)
            newest = self._value(whole, layout.version_key(number), "act_version")
            reference["content_hash"] = newest["content_hash"]
        if version:
            version(whole)
        data = _rendered(whole)
        if version_bytes:
            data = version_bytes(data)
        reference["digest"], reference["size"] = self._manifest(data)
        if ref:
            ref(reference)
        self.ref.write_bytes(_rendered(reference))

    def _root(self, whole: Json) -> Json:
        return self._value(whole, "zarr.json", "act")

    def _value(self, manifest: Json, key: str, name: str) -> Json:
        return json.loads(self._joined(manifest, key))["attributes"][name]

    def _joined(self, manifest: Json, key: str) -> bytes:
        layers = [x for x in manifest["layers"] if x["annotations"][TITLE] == key]
        return b"".join(self.blob(x["digest"]).read_bytes() for x in layers)

    def _document(
        self,
        manifest: Json,
        key: str,
        name: str,
        edit: Edit | None,
        raw: Callable[[bytes], bytes] | None = None,
    ) -> None:
        value = self._value(manifest, key, name)
        if edit:
            edit(value)
        data = layout.render(layout.group(**{name: value}))
        if raw:
            data = raw(data)
        digest, size = self.put(data)
        layers = manifest["layers"]
        place = next(n for n, x in enumerate(layers) if x["annotations"][TITLE] == key)
        layers[place] |= {"digest": digest, "size": size}
        manifest["layers"] = [
            x for n, x in enumerate(layers) if n == place or x["annotations"][TITLE] != key
        ]

    def _manifest(self, data: bytes) -> tuple[str, int]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.manifest(digest).write_bytes(data)
        return digest, len(data)

    def _load(self, path: Path) -> Json:
        return json.loads(path.read_bytes())


def _rendered(value: Json) -> bytes:
    return json.dumps(value).encode()


def _resign(version: Json, root: Json) -> None:
    from act_data.records import DatasetSchema

    schema = DatasetSchema.model_validate(root["schema"]).model_dump(
        mode="json", exclude_defaults=True
    )
    content = {"schema": schema, "episodes": [[e["hash"], e["split"]] for e in version["episodes"]]}
    version["content_hash"] = hashlib.sha256(canonical_json(content)).hexdigest()
