"""A URDF: what the robot's maker allows its joints, and how they hang together.

The file may come from anywhere: entities and document types are refused, and its size is bounded.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from act_data.errors import InputError, NotFoundError
from act_data.types import JointLimit

_MAX_BYTES = 16 * 1024 * 1024
_MOVING = ("revolute", "prismatic", "continuous")
_MAX_LINKS = 500  # of a chain that is descended in native code


def read_urdf(path: Path) -> dict[str, JointLimit]:
    """The limits of every joint that moves, by its name, in radians or metres.

    Raises:
        NotFoundError: There is no such file.
        InputError: It is no URDF, or a limit is not a number; names the joint.
    """
    return {
        joint.get("name", ""): _limit(path, joint)
        for joint in _robot(path).iter("joint")
        if joint.get("type") in _MOVING
    }


def read_chain(path: Path) -> str:
    """The URDF with nothing but its links, and its joints between them: a tree of bounded size.

    Raises:
        NotFoundError: There is no such file.
        InputError: It is no URDF, its links are no tree, or an axis is none.
    """
    robot = _robot(path)
    links, joints = robot.findall("link"), robot.findall("joint")
    if len(links) > _MAX_LINKS:
        raise InputError(f"{path}: has {len(links)} links", hint=f"At most {_MAX_LINKS} are read.")
    parents = Counter(
        child.get("link", "") for joint in joints if (child := joint.find("child")) is not None
    )
    for link, number in parents.items():
        if number > 1:
            raise InputError(
                f"{path}: link {link!r} is the child of {number} joints",
                hint="The links of a URDF are a tree: each is the child of one joint at most.",
            )
    for joint in joints:
        axis = joint.find("axis")
        if axis is not None and joint.get("type") in _MOVING:
            _check_axis(path, joint.get("name", ""), axis.get("xyz", "1 0 0"))
    chain = Element("robot", name=robot.get("name", "robot"))
    for element in links:
        SubElement(chain, "link", name=element.get("name", ""))
    chain.extend(joints)
    return tostring(chain, encoding="unicode")


def _check_axis(path: Path, joint: str, text: str) -> None:
    try:
        length = math.hypot(*(float(number) for number in text.split()))
    except ValueError:
        length = math.nan
    if not (math.isfinite(length) and length > 0):
        raise InputError(
            f"{path}: joint {joint!r} has the axis {text!r}", hint='An axis is like "0 0 1".'
        )


def _robot(path: Path) -> Element:
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
    moving = any(joint.get("type") in _MOVING for joint in root.iter("joint"))
    if root.tag != "robot" or not moving:
        raise InputError(
            f"{path}: describes no robot with joints that move",
            hint="Give a URDF; expand xacro files first.",
        )
    return root


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
