"""What a dataset is called on a remote: ADDRESS/name, or ADDRESS/name@v3, or ADDRESS/name@tag."""

from __future__ import annotations

import re
from dataclasses import dataclass

from act_data.errors import InputError
from act_data.remotes.records import NAME

LATEST = "latest"
_VERSION = re.compile(r"v?([0-9]{1,9})")
# Names that are no files, or other files, on Windows and on disks without case.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A dataset on a remote.

    Attributes:
        remote: Folder or URL, as it was given.
        tag: "latest", "v3", or a tag.
    """

    remote: str
    name: str
    tag: str

    @staticmethod
    def parse(text: str) -> Address:
        """What `text` means; InputError when it cannot be an address."""
        remote, _, last = text.rstrip("/").rpartition("/")
        name, at, tag = last.partition("@")
        check_name(name, f"{text!r}: {name!r}", "the name of a dataset on a remote")
        number = _VERSION.fullmatch(tag)
        if number:
            tag = f"v{int(number[1])}"
        elif at:
            check_name(tag, f"{text!r}: {tag!r}", "a version or a tag")
        if not remote and text.startswith("/"):
            remote = "/"
        return Address(remote=remote or ".", name=name, tag=tag or LATEST)


def ref_key(name: str, tag: str) -> str:
    """Where a remote keeps what `tag` of the dataset `name` stands for."""
    return f"refs/{name}/{tag}.json"


def is_tag(name: str) -> bool:
    """Whether `name` is that of a tag: neither "latest" nor a version."""
    return name != LATEST and not _VERSION.fullmatch(name)


def blob_key(digest: str) -> str:
    """Where a remote keeps the blob "sha256:<hex>"."""
    hexes = digest.removeprefix("sha256:")
    return f"blobs/sha256/{hexes[:2]}/{hexes}"


def manifest_key(digest: str) -> str:
    """Where a remote keeps the manifest "sha256:<hex>"."""
    return f"manifests/{digest.removeprefix('sha256:')}.json"


def check_name(name: str, where: str, what: str) -> None:
    """Whether `name` is one file name everywhere.

    Args:
        where: How an error begins.
        what: What it is to be the name of.

    Raises:
        InputError: It is not.
    """
    if not is_portable(name) or not NAME.fullmatch(name):
        raise InputError(
            f"{where} cannot be {what}",
            hint="Use letters, digits, '.', '_' and '-', with a letter or digit first, at most "
            "100, and no name that Windows keeps for itself.",
        )


def is_portable(name: str) -> bool:
    """Whether `name` means the same file on every system: no device, no dot at its end."""
    return not _DEVICES.fullmatch(name) and not name.endswith(".") and name not in ("", "..")
