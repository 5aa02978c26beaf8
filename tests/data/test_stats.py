"""Statistics equal numpy's on the whole, however the data was cut, and scalings can be undone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from act_data.errors import DataError, InputError, StoreError
from act_data.records import (
    DatasetSchema,
    EpisodeEntry,
    Feature,
    FeatureStats,
    StatsRecord,
    SyncColumn,
    VersionRecord,
)
from act_data.stats import Histogram, Moments, compute, normaliser
from act_data.types import Reason, Role

FINITE = st.floats(-1e6, 1e6, width=32)
COLUMNS = hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=FINITE)
WITH_GAPS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 20), st.just(2)),
    elements=st.one_of(FINITE, st.sampled_from([np.nan, np.inf, -np.inf])),
)


def total(parts: Sequence[Moments]) -> Moments:
    merged = parts[0]
    for part in parts[1:]:
        merged = merged + part
    return merged


# --- moments ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(COLUMNS, st.data())
def test_moments_of_any_partition_in_any_order_equal_numpy_on_the_whole(
    values: NDArray[np.float32], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    parts = [Moments.of(part) for part in np.split(values, cuts)]
    merged = total(data.draw(st.permutations(parts)))
    whole = values.astype(np.float64)
    scale = np.abs(whole).max(axis=0) + 1e-30
    assert merged.count.tolist() == [len(values)] * values.shape[1]
    assert np.all(np.abs(merged.mean - whole.mean(axis=0)) <= 1e-14 * scale)
    assert np.all(np.abs(merged.std - whole.std(axis=0)) <= 1e-13 * scale)
    assert merged.min.tolist() == whole.min(axis=0).tolist()
    assert merged.max.tolist() == whole.max(axis=0).tolist()


def test_a_small_spread_around_a_large_mean_is_exact_where_mean_of_squares_is_not() -> None:
    values = np.random.default_rng(0).normal(1e4, 1e-2, (100_000, 1)).astype(np.float32)
    truth = values.astype(np.longdouble)
    merged = total([Moments.of(part) for part in np.array_split(values, 97)])
    assert float(merged.mean[0]) == pytest.approx(float(truth.mean()), rel=1e-15)
    assert float(merged.std[0]) == pytest.approx(float(truth.std()), rel=1e-11)
    naive = np.mean(values**2, dtype=np.float32) - np.mean(values, dtype=np.float32) ** 2
    assert np.sqrt(max(float(naive), 0.0)) != pytest.approx(1e-2, rel=0.5)


@settings(deadline=None, max_examples=60)
@given(WITH_GAPS)
def test_values_that_are_not_finite_are_counted_and_in_no_number(
    values: NDArray[np.float32],
) -> None:
    moments = Moments.of(values)
    for d in range(2):
        column = values[:, d].astype(np.float64)
        kept = column[np.isfinite(column)]
        assert moments.count[d] == len(kept)
        assert moments.excluded[d] == len(column) - len(kept)
        if len(kept):
            assert moments.mean[d] == pytest.approx(kept.mean(), rel=1e-12, abs=1e-9)
            assert moments.std[d] == pytest.approx(kept.std(), rel=1e-9, abs=1e-7)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(1, 50))
def test_a_constant_has_no_spread_at_all(value: float, n: int) -> None:
    moments = Moments.of(np.full((n, 1), value, np.float32))
    merged = moments + moments
    assert merged.mean.tolist() == [value]
    assert merged.std.tolist() == [0.0]


# --- histograms -------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.just(3)),
    ),
    st.floats(0, 1),
)
def test_a_histogram_equals_numpy_on_the_pixels(pictures: NDArray[np.uint8], q: float) -> None:
    histogram = Histogram.empty(3, str(pictures.dtype))
    for picture in pictures:
        histogram = Histogram.of(picture, 3) + histogram
    pixels = pictures.reshape(-1, 3).astype(np.float64)
    assert histogram.count.tolist() == [len(pixels)] * 3
    assert histogram.mean == pytest.approx(pixels.mean(axis=0), rel=1e-12)
    assert histogram.std == pytest.approx(pixels.std(axis=0), rel=1e-12, abs=1e-9)
    assert histogram.min.tolist() == pixels.min(axis=0).tolist()
    assert histogram.max.tolist() == pixels.max(axis=0).tolist()
    assert histogram.quantile(q) == pytest.approx(np.quantile(pixels, q, axis=0), rel=1e-12)


# --- a dataset --------------------------------------------------------------------------------


@dataclass(frozen=True)
class MemoryReader:
    """A dataset in memory: a list of episodes, each its arrays by name."""

    schema: DatasetSchema
    data: Sequence[dict[str, NDArray[np.generic]]]
    splits: Sequence[str]
    path: Path = Path("somewhere/pick.zarr")
    uid: str = "u"

    @property
    def episodes(self) -> list[EpisodeEntry]:
        entries, start = [], 0
        for i, (arrays, split) in enumerate(zip(self.data, self.splits, strict=True)):
            length = len(next(iter(arrays.values())))
            entry = {"uid": str(i), "start": start, "length": length, "hash": "", "split": split}
            entries.append(EpisodeEntry.model_validate(entry))
            start += length
        return entries

    @property
    def version(self) -> VersionRecord:
        return VersionRecord(
            number=3, parent=2, created="", episodes=tuple(self.episodes), content_hash="abc"
        )

    def read(
        self, feature: str, episode: int, start: int = 0, stop: int | None = None
    ) -> NDArray[np.generic]:
        return self.data[episode][feature][start:stop]


def dataset(seed: int = 0) -> MemoryReader:
    """Two training episodes and one held out, of 40, 25 and 10 steps; row 7 has no camera."""
    rng = np.random.default_rng(seed)
    schema = DatasetSchema(
        robot="r",
        fps=30,
        columns=tuple(
            SyncColumn(name=n, stream=n, role=Role.OBSERVATION) for n in ("arm", "camera")
        ),
        features=(
            Feature(
                name="qpos", role=Role.OBSERVATION, dtype="float32", shape=(3,), unit="rad",
                names=("a", "b", "c"), columns=("arm",),
            ),
            Feature(name="action", role=Role.ACTION, dtype="float32", shape=(2,)),
            Feature(
                name="images/top", role=Role.OBSERVATION, dtype="uint8", shape=(4, 6, 3),
                codec="raw", columns=("camera",),
            ),
            Feature(
                name="depth/top", role=Role.OBSERVATION, dtype="uint16", shape=(4, 6),
                codec="raw", unit="mm", columns=("camera",),
            ),
            Feature(name="sync_reason", role=Role.SYNC, dtype="uint8", shape=(2,)),
        ),
    )  # fmt: skip
    data: list[dict[str, NDArray[np.generic]]] = []
    for steps in (40, 25, 10):
        qpos = rng.normal(size=(steps, 3)).astype(np.float32)
        qpos[:, 2] = 0.1
        reason = np.zeros((steps, 2), np.uint8)
        reason[7, 1] = Reason.DEAD
        data.append(
            {
                "qpos": qpos,
                "action": rng.normal(size=(steps, 2)).astype(np.float32),
                "images/top": rng.integers(0, 256, (steps, 4, 6, 3), np.uint8),
                "depth/top": rng.integers(0, 4000, (steps, 4, 6), np.uint16),
                "sync_reason": reason,
            }
        )
    return MemoryReader(schema, data, ("train", "train", "val"))


def numbers(values: NDArray[np.generic]) -> dict[str, NDArray[np.float64]]:
    """What numpy says about (T, D) values."""
    wide = values.astype(np.float64)
    quantiles = {f"q{q:02d}": np.quantile(wide, q / 100, axis=0) for q in (1, 10, 50, 90, 99)}
    return {
        "mean": wide.mean(axis=0),
        "std": wide.std(axis=0),
        "min": wide.min(axis=0),
        "max": wide.max(axis=0),
        **quantiles,
    }


@pytest.mark.parametrize(
    ("split", "episodes"),
    [
        pytest.param("train", (0, 1), id="train"),
        pytest.param("val", (2,), id="val"),
        pytest.param("all", (0, 1, 2), id="all"),
    ],
)
def test_every_number_of_every_array_equals_numpy_on_the_split(
    split: str, episodes: tuple[int, ...]
) -> None:
    reader = dataset()
    record = compute(reader, split)
    assert set(record.features) == {"qpos", "action", "images/top", "depth/top"}
    assert record.steps == sum(reader.episodes[i].length for i in episodes)
    for name, stats in record.features.items():
        masked = 7 if "top" in name else None
        rows = [
            np.delete(reader.data[i][name], masked, axis=0) if masked else reader.data[i][name]
            for i in episodes
        ]
        last = rows[0].shape[-1] if name != "depth/top" else 1
        whole = np.concatenate([r.reshape(-1, last) for r in rows])
        assert stats.count == (len(whole),) * last, name
        for key, expected in numbers(whole).items():
            assert getattr(stats, key) == pytest.approx(expected, rel=1e-9, abs=1e-9), (name, key)


def test_rows_without_a_valid_camera_are_left_out_of_pictures_only_and_counted() -> None:
    record = compute(dataset())
    assert record.features["images/top"].masked == 2
    assert record.features["depth/top"].count == ((40 + 25 - 2) * 24,)
    assert record.features["qpos"].masked == 0
    assert record.features["action"].count == (65, 65)


def test_constant_dimensions_and_the_dataset_are_named() -> None:
    record = compute(dataset())
    assert record.features["qpos"].constant == (2,)
    assert record.features["qpos"].std[2] == 0.0
    assert record.features["qpos"].names == ("a", "b", "c")
    assert (record.dataset, record.version, record.content_hash) == ("pick", 3, "abc")
    assert (record.split, record.episodes, record.steps) == ("train", 2, 65)


def test_a_dimension_of_nan_is_counted_and_has_no_number_in_json() -> None:
    reader = dataset()
    for arrays in reader.data:
        arrays["action"][:, 1] = np.nan
        arrays["action"][0, 0] = -np.inf
    record = compute(reader)
    assert record.features["action"].nan == (2, 65)
    assert record.features["action"].count == (63, 0)
    assert record.features["action"].mean[1] is None
    assert record.features["action"].q50[1] is None
    text = record.model_dump_json()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert StatsRecord.model_validate_json(text) == record


def test_an_array_that_was_never_valid_has_no_numbers() -> None:
    reader = dataset()
    for arrays in reader.data:
        arrays["sync_reason"][:, 1] = Reason.ABSENT
    picture = compute(reader).features["images/top"]
    assert picture.count == (0, 0, 0)
    assert picture.mean == (None, None, None)
    assert picture.max == (None, None, None)
    assert picture.constant == ()
    assert picture.masked == 65


def test_progress_ends_at_all_rows_of_all_arrays() -> None:
    seen: list[tuple[int, int]] = []
    compute(dataset(), progress=lambda done, rows: seen.append((done, rows)))
    assert seen[-1] == (4 * 65, 4 * 65)
    assert seen == sorted(seen)


def test_an_empty_split_is_an_input_error_with_the_way_out() -> None:
    reader = dataset()
    with pytest.raises(InputError, match="no episode in split 'val'") as caught:
        compute(MemoryReader(reader.schema, reader.data[:1], ("train",)), "val")
    assert "all" in caught.value.hint


def test_a_dependency_on_an_unknown_sync_column_is_a_store_error() -> None:
    reader = dataset()
    schema = reader.schema.model_copy(update={"columns": reader.schema.columns[:1]})
    with pytest.raises(StoreError, match="'camera'"):
        compute(MemoryReader(schema, reader.data, reader.splits))


# --- scaling ----------------------------------------------------------------------------------


def described(values: NDArray[np.generic]) -> FeatureStats:
    """Statistics of (T, D) values, by numpy."""
    d = values.shape[1]
    fields = {key: tuple(column.tolist()) for key, column in numbers(values).items()}
    return FeatureStats.model_validate({"count": (len(values),) * d, "nan": (0,) * d, **fields})


@pytest.mark.parametrize("kind", ["mean_std", "unit", "symmetric"])
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_what_was_scaled_comes_back_within_four_units_in_the_last_place(
    kind: str, data: st.DataObject
) -> None:
    values = data.draw(COLUMNS)
    scaling = normaliser(kind, described(values), std_floor=1e-2)
    other = data.draw(hnp.arrays(np.float32, (5, values.shape[1]), elements=FINITE))
    for x in (values, other):
        there = scaling.scale(x)
        assert there.dtype == np.float32
        assert np.isfinite(there).all()
        back = scaling.unscale(there)
        largest = np.maximum(np.abs(x), np.abs(x - scaling.offset))
        bound = 4 * np.spacing(largest).astype(np.float64)
        # A factor below 1 may push the scaled value under the smallest normal number.
        bound += float(np.finfo(np.float32).smallest_subnormal) * np.maximum(scaling.factor, 1)
        assert np.all(np.abs(back.astype(np.float64) - x) <= bound)


def test_each_kind_reaches_its_range() -> None:
    values = np.random.default_rng(0).normal(3, 5, (500, 4)).astype(np.float32)
    stats = described(values)
    unit = normaliser("unit", stats, std_floor=1e-2).scale(values)
    assert unit.min(axis=0).tolist() == [0.0] * 4
    assert unit.max(axis=0).tolist() == [1.0] * 4
    symmetric = normaliser("symmetric", stats, std_floor=1e-2).scale(values)
    assert symmetric.min(axis=0) == pytest.approx([-1.0] * 4, abs=1e-6)
    assert symmetric.max(axis=0) == pytest.approx([1.0] * 4, abs=1e-6)
    standard = normaliser("mean_std", stats, std_floor=1e-2).scale(values)
    assert standard.mean(axis=0) == pytest.approx([0.0] * 4, abs=1e-5)
    assert standard.std(axis=0) == pytest.approx([1.0] * 4, abs=1e-5)


@pytest.mark.parametrize("kind", ["mean_std", "unit", "symmetric"])
def test_a_constant_dimension_is_moved_to_zero_and_not_stretched(kind: str) -> None:
    values = np.full((10, 1), 0.3, np.float32)
    scaling = normaliser(kind, described(values), std_floor=1e-2)
    assert scaling.factor.tolist() == [1.0]
    assert scaling.scale(values).tolist() == [[0.0]] * 10
    assert scaling.unscale(scaling.scale(values)).tolist() == values.tolist()


def test_the_floor_holds_for_a_dimension_that_hardly_moves() -> None:
    values = np.array([[0.0], [1e-3]], np.float32)
    assert normaliser("mean_std", described(values), std_floor=1e-2).factor == pytest.approx([1e-2])
    assert normaliser("mean_std", described(values), std_floor=1e-9).factor == pytest.approx([5e-4])


def test_a_dimension_without_a_finite_value_cannot_be_scaled() -> None:
    stats = described(np.zeros((3, 2), np.float32))
    stats = stats.model_copy(
        update={"count": (3, 0), "mean": (0.0, None), "names": ("joint0", "joint1")}
    )
    with pytest.raises(DataError, match=r"dimension 1 \('joint1'\)"):
        normaliser("unit", stats, std_floor=1e-2)
