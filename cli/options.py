"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .completion import complete_ref

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")]
Ref = Annotated[
    str,
    typer.Argument(help="A path, a name, or name@version.", autocompletion=complete_ref),
]
Checkpoint = Annotated[
    Path | None, typer.Argument(help="A checkpoint folder [the newest registered one].")
]
Runtime = Annotated[
    Literal["torch", "onnx"],
    typer.Option(help="torch, or onnx: what `act-model export` wrote beside the checkpoint."),
]
MsgPath = Annotated[
    list[Path] | None,
    typer.Option(help="A package or .msg/.idl file, for types a bag does not define; repeatable."),
]
Typestore = Annotated[
    str | None,
    typer.Option(help="ROS version of a bag without definitions: ros2_foxy, ros2_humble, ..."),
]

# --- of curation ---

Where = Annotated[
    str | None,
    typer.Option(help="A condition, e.g. \"success and length > 100 and task = 'pour'\"."),
]
Selection = Annotated[
    list[str] | None,
    typer.Argument(help="Episodes: numbers (3), ranges (0-9), uids or how one begins."),
]
Message = Annotated[str, typer.Option("--message", "-m", help="Why; kept with the version.")]
NewDataset = Annotated[Path, typer.Option("--out", "-o", help="The new dataset: *.zarr.")]

# --- of a robot that is here ---

BACKENDS = "ros1[:MASTER_URI], ros2[:DOMAIN], foxglove[:ws://HOST:PORT], replay:BAG"

Robot = Annotated[
    str, typer.Option(help="Preset name, a YAML file, or auto: the preset that fits.")
]
Topics = Annotated[
    list[str] | None, typer.Option("--topic", help="Record this one, too. May be given again.")
]
Episodes = Annotated[int | None, typer.Option(min=1, help="Record so many [until you say so].")]
Countdown = Annotated[
    float | None, typer.Option(min=0, help="Seconds before the start [3 on a terminal].")
]
StartBy = Annotated[
    str | None,
    typer.Option(help="What starts each episode: a TOPIC, /JOY:BUTTON, or a service."),
]
StopBy = Annotated[str | None, typer.Option(help="What ends each episode.")]
WaitS = Annotated[float, typer.Option(min=0, help="How long topics of the robot may be missing.")]
Speed = Annotated[float, typer.Option(min=0.01, help="Of a replay.")]

HELD_OUT: dict[bool | None, str] = {
    True: "held out of training",
    False: "NOT held out of training",
    None: "its training data is gone",
}
