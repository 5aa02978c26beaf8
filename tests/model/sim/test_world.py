"""The simulator's physics, places, stages and commands against gym-aloha's own environment."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from act_model.sim.expert import Expert
from act_model.sim.tasks import TASKS, task_named
from act_model.sim.world import Kinematics, World

PEER = """
import sys, os
os.environ["MUJOCO_GL"] = "disable"
import numpy as np
from dm_control import mujoco
from dm_control.rl import control
from gym_aloha.constants import ASSETS_DIR, DT
from gym_aloha.tasks import sim
from gym_aloha.utils import sample_box_pose, sample_insertion_pose

name, seed = sys.argv[1], int(sys.argv[2])
actions = np.load(sys.argv[3])
cube = name == "transfer_cube"
task = sim.TransferCubeTask() if cube else sim.InsertionTask()
task.get_observation = lambda physics: {}  # its own would draw three pictures
physics = mujoco.Physics.from_xml_path(str(ASSETS_DIR / f"bimanual_viperx_{name}.xml"))
env = control.Environment(physics, task, float("inf"), control_timestep=DT)
sim.BOX_POSE[0] = sample_box_pose(seed) if cube else np.concatenate(sample_insertion_pose(seed))
env.reset()
states, rewards = [], []
for action in actions:
    rewards.append(env.step(action).reward)
    states.append(np.concatenate([task.get_qpos(physics), task.get_qvel(physics),
                                  task.get_env_state(physics)]))
np.savez(sys.argv[4], states=np.array(states), rewards=np.array(rewards))
"""


@pytest.mark.parametrize("name", list(TASKS))
def test_the_same_commands_give_to_the_bit_what_gym_aloha_gives(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("peer")
    task, seed = TASKS[name], 3
    world = World(task)
    world.reset(seed)
    actions = Expert(task).plan(world)
    states, rewards = [], []
    for action in actions:
        world.command(action)
        world.advance()
        states.append(np.concatenate([world.qpos, world.qvel, world.objects]))
        rewards.append(world.reward)

    np.save(folder / "actions.npy", actions)
    script, results = folder / "peer.py", folder / "states.npz"
    script.write_text(PEER)
    subprocess.run(
        [sys.executable, script, name, str(seed), folder / "actions.npy", results],
        check=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    peer = np.load(results)
    assert np.array_equal(np.array(states), peer["states"])
    assert rewards == peer["rewards"].tolist()
    assert max(rewards) == 4


def test_a_world_steps_without_any_opengl() -> None:
    code = (
        "import sys, numpy as np; from act_model.sim.world import World;"
        "from act_model.sim.tasks import TASKS; w = World(TASKS['insertion']); w.reset(0);"
        "w.command(w.commanded); w.advance(); print(w.reward, w.now_ns);"
        "print([m for m in ('OpenGL', 'glfw', 'dm_control', 'torch') if m in sys.modules])"
    )
    env = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, env=env)
    assert printed.splitlines() == ["0 20000000", "[]"]


def test_an_unknown_task_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="no simulated task 'pour'") as refusal:
        task_named("pour")
    assert refusal.value.hint == "Use one of: transfer_cube, insertion."  # type: ignore[attr-defined]


def test_the_joints_for_a_tool_pose_bring_the_tool_there() -> None:
    kinematics = Kinematics(TASKS["transfer_cube"])
    rng = np.random.default_rng(0)
    for arm in (0, 1):
        joints = np.array([0.1, -0.9, 1.1, 0.05, -0.3, 0.1])
        for _ in range(5):
            goal = joints + rng.normal(0, 0.1, 6)
            position, axes = kinematics.tool(arm, goal)
            found = kinematics.joints(arm, position, axes, joints)
            there, turned = kinematics.tool(arm, found)
            assert np.abs(there - position).max() < 1e-3
            assert np.abs(turned - axes).max() < 1e-2


@pytest.mark.parametrize("name", list(TASKS))
def test_the_expert_succeeds_from_fresh_places_and_does_the_same_again(name: str) -> None:
    task, rewards = TASKS[name], []
    world, expert = World(task), Expert(task)
    for seed in (5000, 5001, 5002, 5000):
        world.reset(seed)
        rewards.append([])
        for action in expert.plan(world):
            world.command(action)
            world.advance()
            rewards[-1].append(world.reward)
    assert [max(each) for each in rewards] == [4, 4, 4, 4]
    assert rewards[0] == rewards[3]
