"""Pictures: every encoding, `step`, byte order, and what happens when sizes disagree."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from act_data.decode import Decoder, decoder
from act_data.decode.jpeg_header import jpeg_header
from act_data.errors import DataError
from act_data.types import EncodedImage, StreamKind, StreamSpec
from tests.bags import Kind, message, typestore

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
KINDS: tuple[Kind, ...] = ("ros1", "mcap")
STORES = {kind: typestore(kind) for kind in KINDS}


def stream(kind: StreamKind, shape: tuple[int, ...] = ()) -> StreamSpec:
    return StreamSpec(name="cam", topic="/cam", kind=kind, shape=shape)


def colour() -> Decoder:
    return decoder(stream(StreamKind.IMAGE))


def depth() -> Decoder:
    return decoder(stream(StreamKind.DEPTH))


def image(
    pixels: NDArray[Any], encoding: str, /, *, padding: int = 0, big: bool = False, **changed: Any
) -> Any:
    """A real message of `pixels`, whose rows may be padded with garbage."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    filled = np.full((height, rows.shape[1] + padding), 99, np.uint8)
    filled[:, : rows.shape[1]] = rows
    values = {
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": int(big),
        "step": filled.shape[1],
        "data": filled.reshape(-1),
    }
    return message(STORES["ros1"], IMAGE, {**values, **changed})


def compressed(data: bytes, format_: str = "jpeg") -> Any:
    return message(STORES["mcap"], COMPRESSED, {"format": format_, "data": data})


def encoded(pixels: NDArray[Any], format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_, **options)
    return buffer.getvalue()


def with_alpha(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 7, np.uint8)], axis=2)


GREY = RGB[..., 0]


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("pixels", "encoding", "expected"),
    [
        pytest.param(RGB, "rgb8", RGB, id="rgb8"),
        pytest.param(RGB[..., ::-1], "bgr8", RGB, id="bgr8"),
        pytest.param(with_alpha(RGB), "rgba8", RGB, id="rgba8"),
        pytest.param(with_alpha(RGB[..., ::-1]), "bgra8", RGB, id="bgra8"),
        pytest.param(GREY, "mono8", np.stack([GREY] * 3, axis=2), id="mono8"),
        pytest.param(
            GREY.astype("<u2") * 256 + 17, "mono16", np.stack([GREY] * 3, axis=2), id="mono16"
        ),
    ],
)
def test_every_colour_encoding_becomes_contiguous_rgb(
    pixels: NDArray[Any], encoding: str, expected: NDArray[np.uint8], padding: int
) -> None:
    value = colour()(IMAGE, image(pixels, encoding, padding=padding))
    assert isinstance(value, np.ndarray)
    assert value.dtype == np.uint8
    assert value.flags.c_contiguous
    np.testing.assert_array_equal(value, expected)


def test_unpadded_rgb8_is_not_copied() -> None:
    msg = image(RGB, "rgb8")
    assert np.shares_memory(colour()(IMAGE, msg), msg.data)


def test_big_endian_words_are_swapped() -> None:
    millimetres = np.array([[1, 256], [65535, 1234]], np.uint16)
    big = depth()(IMAGE, image(millimetres.astype(">u2"), "16UC1", big=True, padding=3))
    little = depth()(IMAGE, image(millimetres.astype("<u2"), "16UC1"))
    np.testing.assert_array_equal(big, millimetres)
    np.testing.assert_array_equal(little, millimetres)
    grey = colour()(IMAGE, image((GREY.astype("u2") << 8).astype(">u2"), "mono16", big=True))
    np.testing.assert_array_equal(grey[..., 0], GREY)


def test_float_metres_become_millimetres_and_the_unknown_becomes_zero() -> None:
    metres = np.array([[0.5, np.nan, np.inf], [-np.inf, -1.0, 65.535], [65.6, 0.0004, 0.0006]])
    value = depth()(IMAGE, image(metres.astype("<f4"), "32FC1"))
    np.testing.assert_array_equal(value, [[500, 0, 0], [0, 0, 65535], [0, 0, 1]])
    assert value.dtype == np.uint16


SIGNALLING = np.array([[0x7FA00000, 0x3F800000]], "<u4").view("<f4")  # a NaN that traps, and 1.0


def test_a_signalling_nan_is_unknown_without_a_warning() -> None:
    np.testing.assert_array_equal(depth()(IMAGE, image(SIGNALLING, "32FC1")), [[0, 1000]])


@pytest.mark.parametrize(
    ("encoding", "order"),
    [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")],
)
@pytest.mark.parametrize(
    ("yuv", "rgb"),
    [
        pytest.param((16, 128, 128), (0, 0, 0), id="black"),
        pytest.param((235, 128, 128), (255, 255, 255), id="white"),
        pytest.param((81, 90, 240), (255, 0, 0), id="red"),
        pytest.param((145, 54, 34), (0, 255, 0), id="green"),
        pytest.param((41, 240, 110), (0, 0, 255), id="blue"),
    ],
)
def test_packed_yuv_is_bt601_in_video_range(
    encoding: str, order: str, yuv: tuple[int, ...], rgb: tuple[int, ...]
) -> None:
    y, u, v = yuv
    pair = {"uyvy": [u, y, v, y], "yuyv": [y, u, y, v]}[order]
    msg = image(np.array([pair * 2] * 3, np.uint8).reshape(3, 4, 2), encoding, padding=2)
    value = colour()(IMAGE, msg)
    assert isinstance(value, np.ndarray)
    assert value.shape == (3, 4, 3)
    assert np.abs(value.astype(int) - rgb).max() <= 2


def test_packed_yuv_keeps_each_pixels_own_luma() -> None:
    value = colour()(IMAGE, image(np.uint8([[[16, 128], [235, 128]]]), "yuyv"))
    np.testing.assert_array_equal(value, [[[0, 0, 0], [255, 255, 255]]])


PATTERNS = ("rggb", "bggr", "gbrg", "grbg")


def mosaic(pixels: NDArray[np.uint8], pattern: str) -> NDArray[np.uint8]:
    out = np.empty(pixels.shape[:2], np.uint8)
    for place, letter in enumerate(pattern):
        here = (slice(place // 2, None, 2), slice(place % 2, None, 2))
        out[here] = pixels[..., "rgb".index(letter)][here]
    return out


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_bayer_picture_keeps_what_was_measured_and_fills_in_the_means(pattern: str) -> None:
    raw = mosaic(RGB, pattern)
    value = colour()(IMAGE, image(raw, f"bayer_{pattern}8", padding=1))
    assert isinstance(value, np.ndarray)
    height, width = raw.shape
    for v in range(height):
        for u in range(width):
            for channel, name in enumerate("rgb"):
                near = [
                    int(raw[abs(y) if y < height else 2 * height - 2 - y, x])
                    for y in range(v - 1, v + 2)
                    for x in (
                        abs(x) if x < width else 2 * width - 2 - x for x in range(u - 1, u + 2)
                    )
                    if pattern[(y % 2) * 2 + x % 2] == name and (name != "g" or y == v or x == u)
                ]
                own = pattern[(v % 2) * 2 + u % 2] == name
                expected = raw[v, u] if own else np.mean(near)
                assert abs(value[v, u, channel] - float(expected)) <= 0.5


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_plain_colour_survives_a_bayer_picture_of_odd_size(pattern: str) -> None:
    plain = np.full((5, 7, 3), (200, 100, 30), np.uint8)
    value = colour()(IMAGE, image(mosaic(plain, pattern), f"bayer_{pattern}8"))
    np.testing.assert_array_equal(value, plain)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        pytest.param({"step": 23}, "step 23", id="step-shorter-than-a-row"),
        pytest.param({"height": 7}, "height 7", id="fewer-rows-than-height"),
        pytest.param({"data": np.zeros(9, np.uint8)}, "9 bytes", id="data-cut"),
        pytest.param({"width": 0}, "width 0", id="no-pixel"),
        pytest.param({"encoding": "nv12"}, "'nv12'", id="unknown-encoding"),
        pytest.param({"encoding": "32FC1"}, "'32FC1'", id="depth-is-no-colour"),
        pytest.param({"encoding": "bayer_gggg8"}, "'bayer_gggg8'", id="no-such-pattern"),
    ],
)
def test_sizes_that_disagree_are_named(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=r"/cam \(sensor_msgs/msg/Image\)") as caught:
        colour()(IMAGE, image(RGB, "rgb8", **changed))
    assert told in str(caught.value)
    assert caught.value.hint


def test_an_odd_width_cannot_be_packed_in_pairs() -> None:
    with pytest.raises(DataError, match="width 3 is odd"):
        colour()(IMAGE, image(np.zeros((2, 3, 2), np.uint8), "yuyv"))


def test_a_bayer_line_has_no_colours() -> None:
    with pytest.raises(DataError, match="8 x 1"):
        colour()(IMAGE, image(GREY[:1], "bayer_rggb8"))


@given(st.data())
def test_any_sizes_give_a_picture_of_that_size_or_a_data_error(data: st.DataObject) -> None:
    small = st.integers(0, 6)
    kind = data.draw(st.sampled_from([StreamKind.IMAGE, StreamKind.DEPTH]))
    encodings = ["rgb8", "bgra8", "mono16", "yuyv", "uyvy", "bayer_rggb8", "16UC1", "32FC1", ""]
    values = {
        "height": data.draw(small),
        "width": data.draw(small),
        "step": data.draw(st.integers(0, 30)),
        "encoding": data.draw(st.sampled_from(encodings)),
        "is_bigendian": data.draw(st.integers(0, 1)),
        "data": data.draw(st.binary(max_size=120)),
    }
    msg = message(STORES["ros1"], IMAGE, values)
    try:
        value = decoder(stream(kind))(IMAGE, msg)
    except DataError:
        return
    assert value is not None
    assert tuple(value.shape[:2]) == (values["height"], values["width"])


# --- compressed -------------------------------------------------------------------------------


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_baseline_jpeg_passes_through_untouched(subsampling: int) -> None:
    data = encoded(RGB, "JPEG", subsampling=subsampling)
    value = colour()(COMPRESSED, compressed(data, "rgb8; jpeg compressed bgr8"))
    assert value == EncodedImage(data=data, shape=(6, 8, 3))


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        pytest.param(RGB, {"progressive": True}, id="progressive"),
        pytest.param(GREY, {}, id="grey"),
    ],
)
def test_another_jpeg_is_decoded_to_rgb(pixels: NDArray[Any], options: dict[str, Any]) -> None:
    data = encoded(pixels, "JPEG", quality=95, **options)
    value = colour()(COMPRESSED, compressed(data))
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(value, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        pytest.param(RGB, RGB, id="rgb"),
        pytest.param(with_alpha(RGB), RGB, id="rgba"),
        pytest.param(GREY, np.stack([GREY] * 3, axis=2), id="grey"),
        pytest.param(GREY.astype(np.uint16) * 256, np.stack([GREY] * 3, axis=2), id="16-bit-grey"),
    ],
)
def test_png_is_decoded_to_rgb(pixels: NDArray[Any], expected: NDArray[np.uint8]) -> None:
    value = colour()(COMPRESSED, compressed(encoded(pixels, "PNG"), "png"))
    np.testing.assert_array_equal(value, expected)


MILLIMETRES = np.array([[0, 1, 800], [65535, 256, 4000]], np.uint16)


@pytest.mark.parametrize("header", [b"", struct.pack("<iff", 0, 0.0, 0.0)])
def test_compressed_depth_with_and_without_its_header_is_millimetres(header: bytes) -> None:
    data = header + encoded(MILLIMETRES, "PNG")
    value = depth()(COMPRESSED, compressed(data, "16UC1; compressedDepth png"))
    np.testing.assert_array_equal(value, MILLIMETRES)
    assert value.dtype == np.uint16


def test_compressed_float_depth_is_undone_by_its_quantisation() -> None:
    metres = np.array([[0.4, 1.0, 2.5], [5.0, np.nan, 9.9]])
    depth_max, depth_z0 = 10.0, 100.0  # the publisher's defaults
    a = depth_z0 * (depth_z0 + 1)
    b = 1 - a / depth_max
    values = np.where(np.isnan(metres), 0, np.rint(a / metres + b)).astype(np.uint16)
    data = struct.pack("<iff", 0, a, b) + encoded(values, "PNG")
    value = depth()(COMPRESSED, compressed(data, "32FC1; compressedDepth"))
    assert isinstance(value, np.ndarray)
    expected = np.nan_to_num(metres * 1000)
    assert value[1, 1] == 0
    assert np.abs(value - expected).max() <= 10  # the quantisation's own step at 10 m


@pytest.mark.parametrize(
    ("kind", "data", "format_", "told"),
    [
        pytest.param(StreamKind.IMAGE, b"", "jpeg", "no JPEG", id="empty"),
        pytest.param(StreamKind.IMAGE, b"RVL....", "x", "no JPEG", id="neither-jpeg-nor-png"),
        pytest.param(StreamKind.IMAGE, encoded(RGB, "JPEG")[:-40], "jpeg", "cut", id="cut-jpeg"),
        pytest.param(StreamKind.IMAGE, encoded(RGB, "PNG")[:-30], "png", "damaged", id="cut-png"),
        pytest.param(StreamKind.IMAGE, encoded(RGB, "PNG")[:20], "png", "cut", id="png-stub"),
        pytest.param(StreamKind.DEPTH, encoded(RGB, "JPEG"), "jpeg", "no PNG", id="jpeg-depth"),
        pytest.param(StreamKind.DEPTH, b"\0" * 40, "16UC1; rvl", "no PNG", id="rvl-depth"),
        pytest.param(StreamKind.DEPTH, encoded(GREY, "PNG"), "png", "16 bits", id="8-bit-depth"),
    ],
)
def test_a_damaged_or_foreign_file_is_named(
    kind: StreamKind, data: bytes, format_: str, told: str
) -> None:
    with pytest.raises(DataError, match=r"/cam \(sensor_msgs/msg/CompressedImage\)") as caught:
        decoder(stream(kind))(COMPRESSED, compressed(data, format_))
    assert told in str(caught.value)


def test_a_picture_bomb_is_refused_before_it_is_decoded() -> None:
    bomb = bytearray(encoded(RGB, "PNG"))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(DataError, match="60000 x 60000"):
        colour()(COMPRESSED, compressed(bytes(bomb), "png"))


@given(st.data())
def test_a_damaged_picture_file_never_ends_in_anything_but_a_data_error(
    data: st.DataObject,
) -> None:
    kind, file = data.draw(st.sampled_from(DAMAGED))
    at = data.draw(st.integers(0, len(file)))
    garbage = data.draw(st.binary(max_size=4))
    broken = file[:at] + garbage + file[at + data.draw(st.integers(0, 8)) :]
    try:
        value = decoder(stream(kind))(COMPRESSED, compressed(broken, "16UC1; compressedDepth"))
    except DataError:
        return
    assert value is not None


DAMAGED = [
    (StreamKind.IMAGE, encoded(RGB, "JPEG")),
    (StreamKind.IMAGE, encoded(GREY, "JPEG", progressive=True)),
    (StreamKind.IMAGE, encoded(RGB, "PNG")),
    (StreamKind.DEPTH, struct.pack("<iff", 0, 0.0, 0.0) + encoded(MILLIMETRES, "PNG")),
]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_jpeg_header_is_what_pillow_reads(mode: str, progressive: bool) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RGB).convert(mode).save(buffer, "JPEG", progressive=progressive, dpi=(72, 72))
    header = jpeg_header(buffer.getvalue())
    with Image.open(buffer) as picture:
        assert (header.width, header.height) == picture.size
        assert header.components == len(picture.getbands())
        assert header.baseline is ("progressive" not in picture.info)


def test_fill_bytes_before_a_marker_are_skipped() -> None:
    data = encoded(RGB, "JPEG")
    assert jpeg_header(data[:2] + b"\xff\xff" + data[2:]) == jpeg_header(data)


def test_a_declared_shape_is_held_against_the_picture() -> None:
    decode = decoder(stream(StreamKind.IMAGE, (480, 640, 3)))
    for type_, msg in ((IMAGE, image(RGB, "rgb8")), (COMPRESSED, compressed(encoded(RGB, "JPEG")))):
        with pytest.raises(DataError, match=r"\(6, 8, 3\), declared is \(480, 640, 3\)"):
            decode(type_, msg)


def test_a_type_that_the_kind_cannot_decode_is_named() -> None:
    laser = message(STORES["ros1"], "sensor_msgs/msg/LaserScan", {})
    with pytest.raises(DataError, match="kind 'image' cannot decode"):
        colour()("sensor_msgs/msg/LaserScan", laser)


def test_a_definition_without_the_needed_fields_is_named() -> None:
    class Odd:
        height = 1

    with pytest.raises(DataError, match="lacks width, encoding, is_bigendian, step, data"):
        colour()(IMAGE, Odd())


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_read_alike_from_both_ros_versions_and_from_bytes(kind: Kind) -> None:
    values = {"height": 6, "width": 8, "encoding": "rgb8", "step": 24, "data": RGB.tobytes()}
    store = STORES[kind]
    msg = message(store, IMAGE, values)
    raw = store.serialize_ros1(msg, IMAGE) if kind == "ros1" else store.serialize_cdr(msg, IMAGE)
    again = store.deserialize_ros1 if kind == "ros1" else store.deserialize_cdr
    np.testing.assert_array_equal(colour()(IMAGE, again(raw, IMAGE)), RGB)
    msg.data = RGB.tobytes()  # as a live client delivers it
    np.testing.assert_array_equal(colour()(IMAGE, msg), RGB)
