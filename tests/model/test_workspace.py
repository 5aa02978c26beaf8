"""No tip leaves its box, whatever the policy wants; one that begins outside may come in."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from act_data.errors import InputError, NotFoundError
from act_data.robot import parse_robot
from act_model.config import VectorContract
from act_model.safety import Intervention, Limits, SafetyFilter, Sent
from act_model.safety.kinematics import Workspace
from act_model.safety.preset import sent_by
from act_model.safety.records import Box
from act_model.safety.workspace import parse_workspace, read_workspace

# Two links of half a metre in the x-z plane, a gripper on the second, and a wheel elsewhere.
URDF = """<?xml version="1.0"?>
<robot name="planar">
  <link name="base"><visual><geometry><mesh filename="package://gone.stl"/></geometry></visual></link>
  <link name="upper"/><link name="lower"/><link name="tip"/><link name="finger"/><link name="rim"/>
  <joint name="shoulder" type="revolute">
    <parent link="base"/><child link="upper"/><axis xyz="0 -1 0"/>
    <limit lower="-3" upper="3" velocity="2" effort="1"/>
  </joint>
  <joint name="elbow" type="continuous">
    <parent link="upper"/><child link="lower"/><origin xyz="0.5 0 0"/><axis xyz="0 -1 0"/>
  </joint>
  <joint name="to_tip" type="fixed">
    <parent link="lower"/><child link="tip"/><origin xyz="0.5 0 0"/>
  </joint>
  <joint name="slide" type="prismatic">
    <parent link="tip"/><child link="finger"/><axis xyz="1 0 0"/>
    <limit lower="0" upper="0.1" velocity="1" effort="1"/>
  </joint>
  <joint name="wheel" type="continuous"><parent link="base"/><child link="rim"/></joint>
</robot>
"""
ACTION = (VectorContract(name="action", names=("arm/shoulder", "arm/elbow"), unit="rad"),)
BOX = Box(frame="tip", min=(0.2, -0.1, -0.3), max=(0.9, 0.1, 0.3))
INSIDE = np.array([0.6, -1.2], np.float32)  # the tip is at x 0.83, z 0


@pytest.fixture(scope="module")
def urdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("urdf") / "planar.urdf"
    path.write_text(URDF)
    return path


@pytest.fixture(scope="module")
def workspace(urdf: Path) -> Workspace:
    return Workspace(urdf, [BOX], ACTION)


def tip(action: np.ndarray) -> np.ndarray:
    """By hand: x, y, z of the tip."""
    shoulder, elbow = action.astype(np.float64)
    reach = np.exp(1j * shoulder) + np.exp(1j * (shoulder + elbow))
    return np.array([0.5 * reach.real, 0.0, 0.5 * reach.imag])


def outside(action: np.ndarray) -> float:
    """By hand: metres from the tip to its box."""
    at = tip(action)
    return float(np.linalg.norm(at - np.clip(at, BOX.min, BOX.max)))


def safety_of(workspace: Workspace, **motion: float) -> SafetyFilter:
    limits = Limits.of([-3.0] * 2, [3.0] * 2, **motion)
    return SafetyFilter(limits, 0.02, workspace=workspace)


@settings(max_examples=300, deadline=None)
@given(st.floats(-3, 3), st.floats(-3, 3))
def test_the_tip_is_where_the_joints_bring_it(
    workspace: Workspace, shoulder: float, elbow: float
) -> None:
    action = np.array([shoulder, elbow])
    np.testing.assert_allclose(workspace.tips(action)[0], tip(action), atol=1e-12)
    np.testing.assert_allclose(workspace.beyond(action)[0], outside(action), atol=1e-12)


WANTED = st.one_of(
    st.none(),
    st.tuples(st.floats(-4, 4, width=32), st.floats(-4, 4, width=32)),
    st.just((np.nan, 0.0)),
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(WANTED, max_size=25),
    st.sampled_from([np.inf, 3.0, 40.0]),
    st.sampled_from([np.inf, 30.0, 500.0]),
    st.sampled_from([None, (0.6, -1.2), (1.5, 0.0), (-2.9, 2.9), (0.6, np.nan)]),
)
def test_no_tip_leaves_its_box_and_one_outside_never_moves_further_out(
    workspace: Workspace,
    wanted: list[tuple[float, float] | None],
    velocity: float,
    acceleration: float,
    measured: tuple[float, float] | None,
) -> None:
    safety = safety_of(workspace, velocity=velocity, acceleration=acceleration)
    allowed = 0.0
    if measured is not None:
        safety.start(np.array(measured, np.float32))
        if np.isfinite(measured).all():
            allowed = outside(np.array(measured, np.float32))
    for raw in wanted:
        sent = safety.apply(None if raw is None else np.array(raw, np.float32)).action
        if sent is None:
            continue
        away = outside(sent)
        assert away <= allowed + 1e-9
        allowed = min(away, allowed)


@settings(max_examples=60, deadline=None)
@given(st.lists(WANTED, min_size=1, max_size=12))
def test_what_is_told_ahead_stays_inside_too(
    workspace: Workspace, wanted: list[tuple[float, float] | None]
) -> None:
    safety = safety_of(workspace, velocity=20.0, acceleration=300.0)
    safety.start(INSIDE)
    path = safety.ahead([np.array(raw, np.float32) for raw in wanted if raw is not None])
    assert max((outside(action) for action in path), default=0.0) <= 1e-9
    assert set(safety.counts.values()) == {0}


def test_what_would_leave_is_held_and_counted_and_the_way_back_is_open(
    workspace: Workspace,
) -> None:
    safety = safety_of(workspace)
    first = safety.apply(INSIDE)
    assert (first.action, first.interventions) == (pytest.approx(INSIDE), ())
    for number in (1, 2):
        held = safety.apply(np.array([0.6, 0.0], np.float32))  # stretched out: x 0.83, z 0.56
        assert held.action == pytest.approx(INSIDE)
        assert held.interventions == (Intervention.WORKSPACE,)
        assert safety.counts["workspace"] == number
    assert safety.at_rest
    back = safety.apply(np.array([0.7, -1.4], np.float32))
    assert back.action == pytest.approx([0.7, -1.4])
    assert back.interventions == ()


def test_the_first_action_outside_is_not_sent_at_all(workspace: Workspace) -> None:
    safety = safety_of(workspace)
    filtered = safety.apply(np.zeros(2, np.float32))
    assert filtered.action is None
    assert filtered.interventions == (Intervention.WORKSPACE,)
    assert safety.apply(INSIDE).action == pytest.approx(INSIDE)


def test_a_tip_that_begins_outside_comes_in_and_stays(workspace: Workspace) -> None:
    safety = safety_of(workspace, velocity=2.0)
    start = np.array([1.5, 0.0], np.float32)  # straight up
    assert outside(start) > 0.5
    safety.start(start)
    further = safety.apply(np.array([1.5, 0.4], np.float32))
    assert outside(np.asarray(further.action)) <= outside(start)
    for _ in range(300):
        sent = safety.apply(INSIDE).action
    assert sent == pytest.approx(INSIDE)


def test_a_base_that_is_driven_slows_down_when_the_arm_is_held(urdf: Path) -> None:
    action = (*ACTION, VectorContract(name="base_action", names=("v",), unit="m/s"))
    limits = Limits.of([-3, -3, -1], [3, 3, 1], velocity=[np.inf, np.inf, 20.0])
    workspace = Workspace(urdf, [BOX], action)
    safety = SafetyFilter(
        limits, 0.02, velocities=np.array([False, False, True]), workspace=workspace
    )
    safety.apply(np.array([*INSIDE, 1.0], np.float32))
    sent = [safety.apply(np.array([0.6, 0.0, 1.0], np.float32)).action for _ in range(4)]
    np.testing.assert_allclose(sent, [[*INSIDE, v] for v in (0.6, 0.2, 0.0, 0.0)], atol=1e-6)


def test_what_the_robot_is_told_is_what_moves_its_tip(urdf: Path) -> None:
    robot = parse_robot(
        "r.yaml",
        b"""
name: r
fps: 50
streams: {arm: {topic: /arm, kind: joint_state, joints: [shoulder, elbow], unit: rad}}
arrays: {action: {role: action, from: arm}}
commands:
  shoulder: {topic: /s, kind: joint_state, from: arm, joints: [shoulder]}
  elbow: {topic: /e, kind: joint_state, from: arm, joints: [elbow], scale: -2, offset: 0.5}
""",
    )
    turned = Workspace(urdf, [BOX], ACTION, sent_by(robot, ACTION))
    np.testing.assert_allclose(
        turned.tips(np.array([0.3, 0.4]))[0], tip(np.array([0.3, -0.3])), atol=1e-12
    )


def test_two_arms_of_one_urdf_are_told_apart_by_their_stream(urdf: Path) -> None:
    names = tuple(f"{arm}/{joint}" for arm in ("left", "right") for joint in ("shoulder", "elbow"))
    action = (VectorContract(name="action", names=names, unit="rad"),)
    with pytest.raises(InputError, match="may be left/shoulder or right/shoulder") as error:
        Workspace(urdf, [BOX], action)
    assert error.value.hint == "Say whose it is, in the box: `stream: left`."
    boxes = [BOX.model_copy(update={"stream": arm}) for arm in ("left", "right")]
    both = Workspace(urdf, boxes, action)
    found = both.tips(np.array([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_allclose(found[0], tip(np.array([0.1, 0.2])), atol=1e-12)
    np.testing.assert_allclose(found[1], tip(np.array([0.3, 0.4])), atol=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "frame", "message"),
    [
        pytest.param("", "", "tipp", "has no link 'tipp'", id="unknown-frame"),
        pytest.param(
            "", "", "finger", "'finger' hangs on joint 'slide', which is no", id="not-commanded"
        ),
        pytest.param('name="elbow"', 'name="bend"', "tip", "hangs on joint 'bend'", id="renamed"),
        pytest.param('link="upper"/><axis', 'link="gone"/><axis', "tip", "no URDF", id="no-link"),
        pytest.param('parent link="upper"', 'parent link="lower"', "tip", "no link", id="circle"),
        pytest.param(
            'child link="rim"', 'child link="upper"', "tip", "child of 2 joints", id="no-tree"
        ),
        pytest.param('axis xyz="0 -1 0"', 'axis xyz="0 0 0"', "tip", "has the axis", id="no-axis"),
        pytest.param('axis xyz="0 -1 0"', 'axis xyz="y"', "tip", "the axis 'y'", id="no-number"),
        pytest.param('xyz="0.5 0 0"', 'xyz="nan 0 0"', "tip", "no URDF", id="nan"),
        pytest.param('<link name="rim"/>', '<link name="rim"/>' * 501, "tip", "505|506", id="many"),
        pytest.param('name="slide"', 'name="elbow"', "tip", "no URDF", id="twice"),
    ],
)
def test_a_urdf_that_does_not_fit_is_refused(
    tmp_path: Path, old: str, new: str, frame: str, message: str
) -> None:
    path = tmp_path / "r.urdf"
    path.write_text(URDF.replace(old, new) if old else URDF)
    with pytest.raises(InputError, match=message) as error:
        Workspace(path, [BOX.model_copy(update={"frame": frame})], ACTION)
    assert error.value.hint


def test_a_joint_that_is_commanded_by_its_velocity_has_no_place(urdf: Path) -> None:
    with pytest.raises(InputError, match="is no position that the action commands"):
        Workspace(urdf, [BOX], (ACTION[0].model_copy(update={"unit": "rad/s"}),))


GOOD = """\
boxes:
  - frame: tip
    min: [0.2, -0.1, -0.3]
    max: [0.9, 0.1, 0.3]
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        pytest.param("0.2,", "1.2,", 2, "x is from 1.2 to 0.9", id="crossed"),
        pytest.param("0.2,", ".nan,", 3, "'.nan'", id="nan"),
        pytest.param("0.2,", "inf,", 3, "finite", id="infinite"),
        pytest.param("[0.2, ", "[", 3, "min", id="two-numbers"),
        pytest.param("frame: tip", "link: tip", 2, "missing", id="no-frame"),
        pytest.param("boxes:", "box:", 1, "box", id="unknown-key"),
        pytest.param("    max: [0.9, 0.1, 0.3]\n", "", 2, "boxes.0.max is missing", id="no-max"),
        pytest.param(GOOD, "boxes: []", 1, "at least 1", id="empty"),
        pytest.param(GOOD, "[1", 1, "not YAML", id="not-yaml"),
        pytest.param(GOOD, "", 1, "the file is empty", id="nothing"),
        pytest.param(GOOD, "a" * 70_000, 0, "larger than", id="large"),
    ],
)
def test_a_wrong_workspace_file_is_told_line_and_value(
    tmp_path: Path, old: str, new: str, line: int, told: str
) -> None:
    path = tmp_path / "box.yaml"
    path.write_text(GOOD)
    assert read_workspace(path) == (BOX,)
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(InputError, match=re.escape(told)) as error:
        read_workspace(path)
    assert error.value.hint
    if line:
        assert f"box.yaml:{line}:" in str(error.value)


def test_a_workspace_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no workspace file .*box\.yaml"):
        read_workspace(tmp_path / "box.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_workspace(tmp_path)
    with pytest.raises(InputError, match="not UTF-8: byte 0xff"):
        parse_workspace("b", b"\xff")


def test_without_pinocchio_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pinocchio", None)
    monkeypatch.delitem(sys.modules, "act_model.safety.kinematics")
    with pytest.raises(InputError, match="cannot be computed") as error:
        importlib.import_module("act_model.safety.kinematics")
    assert error.value.hint == "pip install 'act-toolkit[workspace]'"


def test_an_action_as_it_is_sent_is_its_own_position() -> None:
    sent = Sent.as_it_is(2)
    assert (sent.scale.tolist(), sent.offset.tolist()) == ([1.0, 1.0], [0.0, 0.0])
