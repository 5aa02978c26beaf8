"""How pictures are stored in a target, and which of the original ALOHA programs can read it.

plain       tonyzhaozh/act: raw pictures; no base_action, no depth
compressed  act-plus-plus: padded JPEG files with red and blue exchanged; else as plain
mobile      mobile-aloha: as compressed, with base_action
agilex      cobot_magic: raw pictures, base_action and depth
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from act_data.convert.foreign import Foreign, ForeignArray
from act_data.convert.mapping import Planned
from act_data.convert.settings import ConvertSettings, Dialect, Target
from act_data.errors import InputError
from act_data.records import Codec


@dataclass(frozen=True, slots=True)
class _Rules:
    codec: Codec
    base: bool
    depth: bool


_DIALECTS: Mapping[Dialect, _Rules] = {
    "plain": _Rules("raw", base=False, depth=False),
    "compressed": _Rules("jpeg", base=False, depth=False),
    "mobile": _Rules("jpeg", base=True, depth=False),
    "agilex": _Rules("raw", base=True, depth=True),
}


def picture_codec(
    array: ForeignArray, foreign: Foreign, settings: ConvertSettings, target: Target
) -> Codec:
    """How the target keeps the pictures of `array`."""
    if settings.codec is not None:
        return settings.codec
    if target == "aloha_hdf5":
        if settings.dialect is not None:
            return _DIALECTS[settings.dialect].codec
        return "jpeg" if array.jpeg == "swapped" else "raw"
    if array.lossy:
        return "jpeg"
    kept = _kept(array, foreign)
    if kept is not None:
        return kept
    return "zstd" if foreign.simulated else "blosc"


def codec_of(array: ForeignArray, dtype: str, foreign: Foreign, target: Target) -> Codec:
    """How the target keeps what is no colour picture; depth is lossless everywhere."""
    if dtype != "uint16":
        return "none"
    if target == "aloha_hdf5":
        return "raw"
    return _kept(array, foreign) or "blosc"


def _kept(array: ForeignArray, foreign: Foreign) -> Codec | None:
    """The lossless codec that an act-zarr source has chosen already."""
    codecs: dict[str, Codec] = {"zstd": "zstd", "blosc": "blosc", "raw": "raw"}
    return codecs.get(array.encoding) if foreign.kind == "act_zarr" else None


def in_dialect(
    planned: Sequence[Planned], dialect: Dialect
) -> tuple[list[Planned], dict[str, str]]:
    """What a file in `dialect` holds, and what is left out of it.

    Raises:
        InputError: What the programs that read it need is not there.
    """
    rules = _DIALECTS[dialect]
    kept, left_out = [], {}
    for p in planned:
        base, depth = p.name == "base_action", p.dtype == "uint16"
        if (base and not rules.base) or (depth and not rules.depth):
            left_out.update({part.name: f"not in the dialect {dialect!r}" for part in p.parts})
        else:
            kept.append(p)
    names = {p.name for p in kept}
    needed = ["qpos", "action", *(["base_action"] if rules.base else [])]
    missing = [name for name in needed if name not in names]
    if not any(p.picture for p in kept):
        missing.append("images/<camera>")
    if rules.depth and not any(p.dtype == "uint16" for p in kept):
        missing.append("depth/<camera>")
    if missing:
        raise InputError(
            f"the dialect {dialect!r} needs {', '.join(missing)}; "
            f"the source gives {', '.join(sorted(names))}",
            hint="Give an array that name with --map SOURCE=TARGET, or leave --dialect out.",
        )
    return kept, left_out
