"""JPEG files are written, read and looked at; broken ones are errors, not pictures."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from act_data.errors import DataError
from act_data.records import Feature
from act_data.store import jpeg
from act_data.types import EncodedImage, Role

CAMERA = Feature(
    name="images/c", role=Role.OBSERVATION, dtype="uint8", shape=(20, 30, 3), codec="jpeg"
)
PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def file(mode: str = "RGB", size: tuple[int, int] = (20, 30), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PICTURE).resize(size[::-1]).convert(mode).save(buffer, "jpeg", **options)
    return buffer.getvalue()


def without_tables(data: bytes) -> bytes:
    """A Motion-JPEG frame: the Huffman tables are left out."""
    while (at := data.find(b"\xff\xc4")) >= 0:
        data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4]) :]
    return data


def test_a_header_says_size_components_and_kind() -> None:
    assert jpeg.header(jpeg.encode(PICTURE, 95)) == jpeg.JpegHeader(20, 30, 3, True)
    assert jpeg.header(file(progressive=True)) == jpeg.JpegHeader(20, 30, 3, False)
    assert jpeg.header(file("L")) == jpeg.JpegHeader(20, 30, 1, True)
    assert jpeg.header(without_tables(file())) == jpeg.JpegHeader(20, 30, 3, False)


def test_red_stays_red() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    back = jpeg.decode(jpeg.encode(red, 95))
    assert np.abs(back.astype(int) - red).max() <= 3


def test_every_decoder_sees_the_same_pixels() -> None:
    data = jpeg.encode(PICTURE, 95)
    np.testing.assert_array_equal(jpeg.decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_decoding_fills_the_given_array() -> None:
    data = jpeg.encode(PICTURE, 95)
    out = np.zeros((2, 20, 30, 3), np.uint8)
    jpeg.decode(data, out[1])
    np.testing.assert_array_equal(out[1], jpeg.decode(data))
    assert not out[0].any()
    with pytest.raises(DataError, match="20 x 30"):
        jpeg.decode(data, np.zeros((30, 20, 3), np.uint8))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        pytest.param(b"", "not a JPEG", id="empty"),
        pytest.param(b"\x89PNG\r\n", "not a JPEG", id="png"),
        pytest.param(b"\xff\xd8\xff\xd9", "frame header", id="no-picture"),
        pytest.param(file()[:100], "frame header", id="cut-in-the-header"),
        pytest.param(file()[:-60], "damaged", id="cut-in-the-picture"),
        pytest.param(
            file().replace(b"\x00\x14\x00\x1e\x03", b"\xff\xff\xff\xff\x03"), "claims", id="bomb"
        ),
    ],
)
def test_what_is_no_whole_jpeg_file_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(DataError, match=what):
        jpeg.decode(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 700), st.booleans())
def test_no_bytes_make_the_header_or_the_decoder_fail_in_another_way(
    noise: bytes, at: int, cut: bool
) -> None:
    data = file()
    data = data[:at] + noise + (b"" if cut else data[at + len(noise) :])
    for call in (jpeg.header, jpeg.decode):
        with contextlib.suppress(DataError):
            call(data)


@pytest.mark.parametrize("quality", [30, 95])
def test_a_file_that_fits_passes_through(quality: int) -> None:
    data = file(quality=quality)
    for padded in (data, data + b"\0\0"):
        assert jpeg.stored(EncodedImage(data=padded, shape=(20, 30, 3)), CAMERA) == padded


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(file(progressive=True), id="progressive"),
        pytest.param(file("L"), id="grey"),
        pytest.param(without_tables(file(quality=75)), id="motion-jpeg"),
    ],
)
def test_a_file_that_not_every_decoder_reads_is_encoded_again(data: bytes) -> None:
    image = EncodedImage(data=data, shape=(20, 30, 3))
    stored = jpeg.stored(image, CAMERA)
    assert jpeg.header(stored) == jpeg.JpegHeader(20, 30, 3, True)
    assert stored == jpeg.encode(jpeg.decode(data), CAMERA.quality)
    np.testing.assert_array_equal(jpeg.codec_round_trip(image, CAMERA), jpeg.decode(stored))


def test_a_picture_of_another_size_or_cut_short_is_refused() -> None:
    with pytest.raises(DataError, match=r"'images/c'.*10 x 30.*\(20, 30, 3\)"):
        jpeg.stored(EncodedImage(data=file(size=(10, 30)), shape=(10, 30, 3)), CAMERA)
    with pytest.raises(DataError, match="damaged"):
        jpeg.stored(EncodedImage(data=file()[:-60], shape=(20, 30, 3)), CAMERA)


@pytest.mark.parametrize("codec", ["raw", "zstd", "blosc"])
def test_lossless_codecs_give_back_the_picture_itself(codec: str) -> None:
    lossless = CAMERA.model_copy(update={"codec": codec})
    np.testing.assert_array_equal(jpeg.codec_round_trip(PICTURE, lossless), PICTURE)
    image = EncodedImage(data=file(), shape=(20, 30, 3))
    np.testing.assert_array_equal(jpeg.codec_round_trip(image, lossless), jpeg.decode(file()))
