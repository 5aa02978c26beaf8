"""Changes to files that a fuzzer can steer: by a short program, at the places that matter."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Sequence

Place = tuple[int, int]  # offset and size of one field of a file

NUMBERS = (
    0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40,
    2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
_ROS1_NAMES = (
    b"op", b"conn", b"time", b"size", b"index_pos", b"chunk_pos", b"count", b"ver", b"conn_count",
    b"chunk_count", b"start_time", b"end_time", b"compression", b"topic", b"type",
    b"message_definition",
)  # fmt: skip
_MAX_FILE = 1 << 17


def edited(seed: bytes, program: bytes, places: Sequence[Place]) -> bytes:
    """`seed` after the steps of `program`: fields set, bytes flipped, cut, doubled, put in.

    A step is a byte that says what, two that say where (a share of the places or of the file),
    and what the kind of step needs. Any bytes are a program.
    """
    data, at = bytearray(seed), 0
    while at + 3 <= len(program) and data:
        what, where = program[at] % 8, int.from_bytes(program[at + 1 : at + 3], "little")
        rest = program[at + 3 : at + 12]
        offset = where * len(data) >> 16
        if what <= 3 and places:
            start, size = places[where % len(places)]
            number = NUMBERS[rest[0] % len(NUMBERS)] if rest else 0
            literal = rest[1 : 1 + size] if what == 3 else number.to_bytes(8, "little")
            data[start : start + size] = literal.ljust(size, b"\0")[:size]
            at += 4 + (size if what == 3 else 0)
        elif what == 4:
            data[offset] ^= rest[0] if rest else 0xFF
            at += 4
        elif what == 5:
            del data[offset : offset + (rest[0] if rest else 1)]
            at += 4
        elif what == 6 and len(data) < _MAX_FILE:
            length = 16 * (rest[0] if rest else 1)
            data[offset:offset] = data[offset : offset + length]
            at += 4
        else:
            del data[offset:]
            at += 3
    return bytes(data)


def ros1_places(bag: bytes) -> list[Place]:
    """The values of header fields of a ROS 1 bag, and the lengths before them."""
    found: list[Place] = []
    for name in _ROS1_NAMES:
        for match in re.finditer(re.escape(name) + b"=", bag):
            if match.start() < 4:
                continue
            (length,) = struct.unpack_from("<I", bag, match.start() - 4)
            size = length - len(name) - 1
            found += [(match.start() - 4, 4), (match.end(), max(1, min(size, 8)))]
    return sorted(found)


def mcap_places(file: bytes) -> list[Place]:
    """Opcodes, lengths and the first words of every record of an MCAP file."""
    found: list[Place] = []
    at = 8
    while at + 9 <= len(file) - 8:
        (length,) = struct.unpack_from("<Q", file, at + 1)
        found += [(at, 1), (at + 1, 8)]
        body = at + 9
        found += [(body + 4 * i, size) for i in range(12) for size in (2, 4, 8) if 4 * i < length]
        at = body + length
    return found


def db3_places(file: bytes) -> list[Place]:
    """The file header and the head of every page of an SQLite file."""
    (page,) = struct.unpack_from(">H", file, 16)
    found = [(at, size) for at in range(16, 100, 4) for size in (1, 2, 4)]
    for start in range(0, len(file), page or 4096):
        head = start or 100
        found += [(head + at, size) for at in range(0, 24, 2) for size in (1, 2)]
    return found


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A seed after a few random changes, or random bytes: what a fuzzer does without a guide."""
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(200))
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                data[at : at + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))])
            case 1:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 2:
                del data[at : at + rng.randrange(1, 16)]
            case 3:
                data[at:at] = rng.randbytes(rng.randrange(1, 12))
            case 4:
                size = rng.choice((2, 4, 8))
                number = rng.choice(NUMBERS).to_bytes(8, rng.choice(("little", "big")))
                data[at : at + size] = number[:size]
            case _:
                other = rng.choice(seeds)
                start = rng.randrange(len(other) + 1)
                data[at : at + 16] = other[start : start + rng.randrange(1, 64)]
    return bytes(data[:_MAX_FILE])
