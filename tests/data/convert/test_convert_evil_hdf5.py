"""HDF5 files made to hurt: refused before a byte of their arrays is decoded."""

from __future__ import annotations

import os
import resource
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from act_data.convert import ConvertSettings, convert
from act_data.errors import ActError, DataError
from act_data.store.hdf5 import GuardedFile
from tests.data.convert.originals import aloha_file, robomimic_file

QVEL = "observations/qvel"
Edit = Callable[[h5py.File, Path], None]


def replaced(where: str, *args: Any, **kwargs: Any) -> Edit:
    def edit(root: h5py.File, _: Path) -> None:
        del root[where]
        root.create_dataset(where, *args, **kwargs)

    return edit


def link(where: str, to: Any) -> Edit:
    def edit(root: h5py.File, folder: Path) -> None:
        with h5py.File(folder / "other.h5", "w") as other:
            other["x"] = np.zeros((5, 14), np.float32)
        del root[where]
        root[where] = to(folder) if callable(to) else to

    return edit


def external(root: h5py.File, folder: Path) -> None:
    (folder / "secret").write_bytes(b"s" * 4096)
    del root[QVEL]
    root.create_dataset(QVEL, (5, 14), "f4", external=[(str(folder / "secret"), 0, 280)])


def virtual(root: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout((5, 14), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (5, 14), "f4")
    del root[QVEL]
    root.create_virtual_dataset(QVEL, layout)


def loop_of_soft_links(root: h5py.File, _: Path) -> None:
    del root["observations/images"]
    root["observations/images"] = h5py.SoftLink("/a")
    root["a"] = h5py.SoftLink("/b")
    root["b"] = h5py.SoftLink("/a")


def group_in_itself(root: h5py.File, _: Path) -> None:
    root["observations/images/again"] = root["observations/images"]


def references(root: h5py.File, _: Path) -> None:
    del root[QVEL]
    made = root.create_dataset(QVEL, (5, 1), h5py.ref_dtype)
    made[0] = root["action"].ref


def bomb(root: h5py.File, _: Path) -> None:
    """One chunk of 280 declared bytes that inflates to 200 MB."""
    del root[QVEL]
    made = root.create_dataset(QVEL, (5, 14), "f4", chunks=(5, 14), compression="gzip")
    made.id.write_direct_chunk((0, 0), zlib.compress(bytes(200 << 20), 9))


def shrunk_chunk(root: h5py.File, _: Path) -> None:
    del root[QVEL]
    made = root.create_dataset(QVEL, (5, 14), "f4", chunks=(5, 14), compression="gzip")
    made.id.write_direct_chunk((0, 0), zlib.compress(bytes(100)))


def unknown_filter(root: h5py.File, _: Path) -> None:
    del root[QVEL]
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((5, 14))
    plan.set_filter(32_015, h5py.h5z.FLAG_OPTIONAL, (1,))
    space = h5py.h5s.create_simple((5, 14))
    made = h5py.h5d.create(root["observations"].id, b"qvel", h5py.h5t.IEEE_F32LE, space, plan)
    made.write_direct_chunk((0, 0), bytes(280))


FLOATS = np.zeros((5, 14), np.float32)
EVIL: list[Any] = [
    pytest.param(external, "outside the file", id="external-storage"),
    pytest.param(virtual, "outside the file", id="virtual-dataset"),
    pytest.param(
        link(QVEL, lambda f: h5py.ExternalLink(str(f / "other.h5"), "/x")), "link to somewhere",
        id="external-link",
    ),
    pytest.param(
        link("observations", lambda f: h5py.ExternalLink(str(f / "other.h5"), "/")),
        "link to somewhere", id="the-group-in-another-file",
    ),
    pytest.param(link(QVEL, h5py.SoftLink("/action")), "link to somewhere", id="soft-link"),
    pytest.param(loop_of_soft_links, "link to somewhere", id="loop-of-soft-links"),
    pytest.param(group_in_itself, "not an array", id="a-group-inside-itself"),
    pytest.param(unknown_filter, "filters", id="unknown-filter"),
    pytest.param(
        replaced(QVEL, data=FLOATS, compression="lzf"), "filters", id="lzf"
    ),
    pytest.param(references, "not read here", id="references"),
    pytest.param(
        replaced(QVEL, (5, 1), h5py.vlen_dtype(np.uint8)), "not read here", id="variable-length"
    ),
    pytest.param(replaced(QVEL, (5, 1), h5py.string_dtype()), "not read here", id="text"),
    pytest.param(
        replaced(QVEL, data=np.zeros((5, 1), [("a", "f4"), ("b", "i8")])), "not read here",
        id="compound",
    ),
    pytest.param(replaced(QVEL, data=np.zeros((5, 1), "c8")), "not read here", id="complex"),
    pytest.param(replaced(QVEL, (5, 14), "f4"), "promises", id="never-written"),
    pytest.param(
        replaced(QVEL, (10**12, 14), "f4", chunks=(1, 14)), "promises", id="a-petabyte-of-nothing"
    ),
    pytest.param(
        replaced(QVEL, (10**9, 14), "f4", chunks=(64, 14), compression="gzip"), "promises",
        id="compressed-chunks-missing",
    ),
    pytest.param(bomb, "cannot be read", id="a-bomb-in-a-chunk"),
    pytest.param(shrunk_chunk, "100 bytes where 280", id="a-chunk-that-is-too-short"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "says"), EVIL)
def test_an_evil_file_is_refused_and_leaves_nothing(tmp_path: Path, edit: Edit, says: str) -> None:
    path = tmp_path / "episode_0.hdf5"
    aloha_file(path)
    with h5py.File(path, "r+") as root:
        edit(root, tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ActError, match=says) as caught:
        convert(path, tmp_path / "ds.zarr", ConvertSettings(fps=50, source_format="aloha_hdf5"))
    assert isinstance(caught.value, DataError)
    assert "episode_0.hdf5" in str(caught.value)
    assert not (tmp_path / "ds.zarr").exists()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000, "kB of memory for a file of a few kB"


@pytest.mark.parametrize(
    "chunks", [(1, 1 << 28), (1 << 28, 1)], ids=["a-wide-chunk", "a-tall-chunk"]
)
def test_a_chunk_that_is_too_large_to_hold_is_refused(
    tmp_path: Path, chunks: tuple[int, int]
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as root:
        made = root.create_dataset("x", chunks, "f4", chunks=chunks, compression="gzip")
        made.id.write_direct_chunk((0, 0), zlib.compress(bytes(1 << 20)))
    with GuardedFile(path) as file, pytest.raises(ActError, match=r"too large|promises"):
        file.array("x")


@pytest.mark.parametrize("dtype", ["f4", ">f8", "u1", "i2", "?"])
@pytest.mark.parametrize("chunks", [(2, 3, 2), (3, 5, 4), (7, 5, 4), (1, 1, 1)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_compressed_chunks_read_as_h5py_reads_them(
    tmp_path: Path, dtype: str, chunks: tuple[int, ...], shuffle: bool
) -> None:
    values = np.random.default_rng(0).integers(0, 99, (7, 5, 4)).astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as root:
        root.create_dataset("x", data=values, chunks=chunks, compression="gzip", shuffle=shuffle)
    with GuardedFile(tmp_path / "a.h5") as file:
        array = file.array("x")
        for start, stop in [(0, 7), (0, 1), (2, 5), (6, 7), (3, 3)]:
            got = array.read(start, stop)
            assert (got.dtype.kind, got.itemsize) == (values.dtype.kind, values.itemsize)
            np.testing.assert_array_equal(got, values[start:stop])


def _survives(whole: bytes, path: Path, settings: ConvertSettings) -> int:
    """How many of 40 damaged copies were refused; every other one was converted."""
    rng = np.random.default_rng(0)
    refused = 0
    for n in range(40):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 12_000), 3):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            convert(path, path.with_name(f"{n}.zarr"), settings)
        except ActError:
            refused += 1
    return refused


@pytest.mark.parametrize("kind", ["mobile", "robomimic"])
def test_random_damage_is_an_error_of_ours_or_without_effect(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "episode_0.hdf5"
    if kind == "mobile":
        aloha_file(path, "mobile", 2)
    else:
        robomimic_file(path, (2, 2))
    format_: Any = "aloha_hdf5" if kind == "mobile" else "robomimic"
    settings = ConvertSettings(fps=20, source_format=format_)
    whole = path.read_bytes()
    pid = os.fork()  # HDF5 is C: a crash should fail this test, not end the test run
    if pid == 0:
        code = 1
        try:
            code = 0 if _survives(whole, path, settings) > 5 else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
