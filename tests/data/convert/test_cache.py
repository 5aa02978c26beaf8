"""A raw copy of a version, perhaps in another size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from act_data.convert import cache
from act_data.decode.resize import resized
from act_data.errors import InputError
from act_data.store import open_dataset, open_writer
from tests.cli.commands import run
from tests.data.store.contract import make_schema, make_steps, record


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "ds.zarr"
    with open_writer(path, make_schema("jpeg"), shard_frames=4) as writer:
        for n, length in enumerate((6, 3)):
            record(writer, f"e{n}", make_steps(length, seed=n), seed=n)
            writer.commit([f"e{n}"])
    return path


def test_a_cache_holds_the_same_pixels_raw_and_everything_else_unchanged(
    dataset: Path, tmp_path: Path
) -> None:
    report = cache(str(dataset), out=tmp_path / "raw.zarr")
    one, two = open_dataset(dataset), open_dataset(Path(report.dataset))
    assert two.schema.feature("images/cam_high").codec == "raw"
    assert [e.split for e in two.episodes] == [e.split for e in one.episodes]
    for n in range(2):
        for feature in one.schema.features:
            np.testing.assert_array_equal(two.read(feature.name, n), one.read(feature.name, n))
        info = two.episode(two.episodes[n].uid).info
        assert info.imported is not None
        assert info.imported.origin is not None
        assert info.imported.origin.name == f"bag{n}"
    assert two.verify("deep") == []
    again = cache(str(dataset), out=tmp_path / "raw.zarr")
    assert (again.added, again.content_hash) == (0, report.content_hash)


def test_an_older_version_is_cached_as_it_was(dataset: Path, tmp_path: Path) -> None:
    report = cache(f"{dataset}@1", out=tmp_path / "old.zarr")
    assert [e.steps for e in report.episodes] == [6]


def test_resized_pictures_are_what_the_networks_door_would_make(
    dataset: Path, tmp_path: Path
) -> None:
    report = cache(str(dataset), size=(16, 20), out=tmp_path / "small.zarr")
    pictures = open_dataset(Path(report.dataset)).read("images/cam_high", 0)
    assert pictures.shape == (6, 16, 20, 3)
    whole = torch.from_numpy(open_dataset(dataset).read("images/cam_high", 0).copy())
    door = functional.resize(
        whole.permute(0, 3, 1, 2).to(torch.float32), [16, 20],
        interpolation=InterpolationMode.BILINEAR, antialias=True,
    )  # fmt: skip
    difference = (door.permute(0, 2, 3, 1) - torch.from_numpy(pictures.copy())).abs()
    assert float(difference.max()) <= 1.0, "rounding of two passes, in levels of 255"
    assert float(difference.mean()) < 0.5


def test_depth_is_never_a_mean_of_depth_and_no_depth() -> None:
    depth = np.array([[0, 1000], [2000, 0]], dtype=np.uint16).repeat(4, 0).repeat(4, 1)
    small = resized(depth, (3, 3))
    assert small.dtype == np.uint16
    assert set(small.ravel().tolist()) <= {0, 1000, 2000}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"size": (8, 320)}, "8x320", id="too-small"),
        pytest.param({"out": Path("x")}, "no \\*.zarr", id="not-zarr"),
    ],
)
def test_what_cannot_be_a_cache_is_refused(
    dataset: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        cache(str(dataset), **options)  # type: ignore[arg-type]


def test_the_command_prints_where_it_lies_and_finds_it_again(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = run("act-data", "cache", str(dataset), "--raw", "--resize", "16x20")
    assert first.code == 0, first.err
    path = Path(first.out.strip())
    assert path.parent == tmp_path / "cache" / "act"
    assert path.name.endswith("-raw-16x20.zarr")
    assert "2 new of 2 episodes" in first.err
    second = run("act-data", "cache", str(dataset), "--resize", "16x20")
    assert (second.out, "0 new of 2 episodes" in second.err) == (first.out, True)
    bad = run("act-data", "cache", str(dataset), "--resize", "small")
    assert bad.code == 2
    assert "HEIGHTxWIDTH" in bad.err
