"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Ref = Annotated[str, typer.Argument(help="A path, a name, or name@version.")]
Checkpoint = Annotated[
    Path | None, typer.Argument(help="A checkpoint folder [the newest registered one].")
]
MsgPath = Annotated[
    list[Path] | None,
    typer.Option(help="A package or .msg/.idl file, for types a bag does not define; repeatable."),
]
Typestore = Annotated[
    str | None,
    typer.Option(help="ROS version of a bag without definitions: ros2_foxy, ros2_humble, ..."),
]

HELD_OUT: dict[bool | None, str] = {
    True: "held out of training",
    False: "NOT held out of training",
    None: "its training data is gone",
}
