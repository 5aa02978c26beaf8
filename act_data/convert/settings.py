"""What a person decides about a conversion, and the account that comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from act_data.convert.foreign import Format
from act_data.records import Codec, Record

Target = Literal["act_zarr", "aloha_hdf5", "lerobot"]
Dialect = Literal["plain", "compressed", "mobile", "agilex"]


class ConvertSettings(Record):
    """What a person may decide; None keeps what the source says, or what suits it.

    Attributes:
        source_format: None looks at the files.
        target_format: None looks at the suffix of the path: act_zarr for *.zarr, else ALOHA HDF5.
        names: Array of the source -> array of the target. Several with one target are
            concatenated in this order; "" leaves the array out.
        fps: For formats that do not say it.
        codec: Of pictures. By default what was lossless stays lossless and what was not is JPEG.
        dialect: Of ALOHA files: which of the original programs will read them.
        simulated: The `sim` attribute of ALOHA files.
        action_shift: `action[t]` is the command at step t + shift.
        jpeg_colors: What a JPEG in a compressed ALOHA file holds; the original scripts swap.
        pictures: How LeRobot keeps them: AV1 or H.264 video, or one PNG file per frame.
        masked: What becomes of steps without valid data where the target has no mask (LeRobot):
            the episode is cut there, or they are kept as they are.
        damaged: What becomes of a conversion when one episode cannot be read.
    """

    source_format: Format | None = None
    target_format: Target | None = None
    names: Mapping[str, str] = Field(default_factory=dict)
    fps: float | None = Field(None, gt=0, le=10_000, allow_inf_nan=False)
    robot: str | None = None
    task: str | None = None
    codec: Codec | None = None
    quality: int | None = Field(None, ge=1, le=100)
    dialect: Dialect | None = None
    simulated: bool | None = None
    action_shift: int | None = Field(None, ge=0)
    jpeg_colors: Literal["swapped", "standard"] = "swapped"
    pictures: Literal["video", "image"] = "video"
    video_codec: Literal["av1", "h264"] | None = None
    masked: Literal["cut", "keep"] = "cut"
    damaged: Literal["fail", "skip"] = "fail"
    shard_frames: int = Field(512, ge=1)
    data_file_mb: int = Field(100, ge=1)
    video_file_mb: int = Field(200, ge=1)


class ConvertedArray(Record):
    """One array of the target.

    Attributes:
        sources: Arrays of the source that it is made of.
        stored: Codec in the target; "" for numbers.
        was: How pictures lay in the source; "" for numbers.
        generations: Most lossy encodings that are known of in any episode; None for numbers.
    """

    name: str
    sources: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    unit: str
    stored: str = ""
    was: str = ""
    generations: int | None = None


class ConvertedEpisode(Record):
    """One episode of the source.

    Attributes:
        uid: In the target; "" where it has none.
        steps: Written, or found there.
        found: It was there already, from this or an interrupted run.
        left_out: Steps of it that are not in the target.
    """

    source: str
    uid: str
    steps: int
    found: bool = False
    left_out: int = 0


class ConvertReport(Record):
    """The account of one conversion.

    Attributes:
        name: In the registry; "" for formats that it does not hold.
        version: 0 for formats that have none, as is `content_hash` "".
        stamps: "nominal": no stamp was recorded, time is the number of the row over fps.
        left_out: Arrays of the source that are not in the target, and why.
        skipped: Episodes that could not be read, and why.
        notes: Sentences for people.
    """

    source: str
    source_format: Format
    variant: str
    dataset: str
    target_format: Target
    name: str = ""
    version: int = 0
    content_hash: str = ""
    fps: float
    stamps: Literal["recorded", "nominal"]
    added: int
    episodes: tuple[ConvertedEpisode, ...]
    arrays: tuple[ConvertedArray, ...]
    left_out: Mapping[str, str] = Field(default_factory=dict)
    skipped: Mapping[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float
