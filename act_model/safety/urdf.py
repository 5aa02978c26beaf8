"""The joint limits of a URDF: what the robot's maker allows.

The file may come from anywhere: entities and document types are refused, and its size is bounded.
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from act_data.errors import InputError, NotFoundError
from act_data.types import JointLimit

_MAX_BYTES = 16 * 1024 * 1024


def read_urdf(path: Path) -> dict[str, JointLimit]:
    """The limits of every joint that moves, by its name, in radians or metres.

    Raises:
        NotFoundError: There is no such file.
        InputError: It is no URDF, or a limit is not a number; names the joint.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(f"no file {str(path)!r}", hint="Give the path of a URDF.") from None
    except OSError as e:
        raise InputError(f"{path}: cannot be read: {e.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise InputError(f"{path}: larger than {_MAX_BYTES} bytes", hint="A URDF is smaller.")
    try:
        root: Element = fromstring(data, forbid_dtd=True)
    except DefusedXmlException:
        raise InputError(
            f"{path}: declares a document type or entities", hint="A URDF needs neither."
        ) from None
    except (ParseError, ValueError, LookupError) as e:  # a ValueError: bytes that are no text
        raise InputError(f"{path}: is no XML: {e}", hint="Expand xacro files first.") from None
    joints = {
        joint.get("name", ""): _limit(path, joint)
        for joint in root.iter("joint")
        if joint.get("type") in ("revolute", "prismatic", "continuous")
    }
    if root.tag != "robot" or not joints:
        raise InputError(
            f"{path}: describes no robot with joints that move",
            hint="Give a URDF; expand xacro files first.",
        )
    return joints


def _limit(path: Path, joint: Element) -> JointLimit:
    element = joint.find("limit")
    given = {} if element is None else element.attrib
    endless = joint.get("type") == "continuous" or element is None
    numbers: dict[str, float] = {}
    for key in ("lower", "upper", "velocity"):
        text = given.get(key)
        if text is None:
            continue
        try:
            numbers[key] = float(text)
        except ValueError:
            numbers[key] = math.nan
        if not math.isfinite(numbers[key]):
            raise InputError(
                f"{path}: joint {joint.get('name')!r} has {key} {text!r}",
                hint="A limit is a finite number, in radians or metres.",
            )
    velocity = numbers.get("velocity")
    return JointLimit(
        # As the format has it: what is not said is 0.
        low=None if endless else numbers.get("lower", 0.0),
        high=None if endless else numbers.get("upper", 0.0),
        velocity=velocity if velocity is not None and velocity > 0 else None,
    )
