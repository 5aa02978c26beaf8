"""The architecture, held by a test: imports go down, and every outside library has one door."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("act_data", "act_model", "cli")

LAYERS = [  # top first; a file may import from lower rows only, or from its own room
    {"cli"},
    {"act_model.recipe", "act_model.launch", "act_model.bench", "act_model.serve",
     "act_model.evaluation"},
    {"act_model.sim.rollouts"},
    {"act_model.train", "act_model.evaluate", "act_model.plan", "act_model.run_report"},
    {"act_model.deploy"},
    {"act_model.policy_process"},
    {"act_model.runtime", "act_model.lineage"},
    {"act_model.export"},
    {"act_model.step", "act_model.validate", "act_model.run_folder", "act_model.training_data",
     "act_model.preflight", "act_model.memory"},
    {"act_model.sim"},
    {"act_model.policy", "act_model.robot_io", "act_model.mixture", "act_model.legacy"},
    {"act_model.dataset", "act_model.transforms", "act_model.checkpoint", "act_model.chunking",
     "act_model.safety", "act_model.config_file", "act_model.watchdog", "act_model.joint_groups"},
    {"act_model.commands"},
    {"act_model.families"},
    {"act_model.nn"},
    {"act_model.jsonl", "act_model.sampling", "act_model.buffers", "act_model.average",
     "act_model.ranks", "act_model.contract", "act_model.networks", "act_model.html_page",
     "act_model.charts", "act_model.event_file", "act_model.recorded"},
    {"act_model.config"},
    {"act_data.record"},
    {"act_data.curate", "act_data.ingest", "act_data.inspect", "act_data.convert",
     "act_data.recover", "act_data.remotes", "act_data.cards"},
    {"act_data.report"},
    {"act_data.check"},
    {"act_data.observe", "act_data.fitting", "act_data.segments"},
    {"act_data.registry", "act_data.engines", "act_data.commands"},
    {"act_data.sources", "act_data.robot", "act_data.decode", "act_data.sync",
     "act_data.episodes", "act_data.store", "act_data.stats"},
    {"act_data.interfaces", "act_data.where"},
    {"act_data.facts", "act_data.spans"},
    {"act_data.records", "act_data.completion"},
    {"act_data.types", "act_data.place"},
    {"act_data.errors"},
]  # fmt: skip
LEVEL = {room: len(LAYERS) - i for i, rooms in enumerate(LAYERS) for room in rooms}

DOORS = {  # outside library -> the only rooms that may import it
    "rclpy": {"act_data.sources.live.ros2", "act_data.sources.live.ros2_graph"},
    "websockets": {
        "act_data.sources.live.foxglove",
        "act_model.serve.server",
        "act_model.serve.client",
    },
    "msgpack": {"act_model.serve.wire", "act_model.serve.client"},
    "uvloop": {"act_model.serve.server"},
    "rosbags": {"act_data.sources", "act_data.commands"},
    "mcap": {"act_data.sources"},
    "lz4": {"act_data.sources"},
    "xmlrpc": {"act_data.sources.live.ros1.rpc"},
    "zarr": {"act_data.store"},
    "numcodecs": {"act_data.store"},
    "h5py": {"act_data.store.hdf5"},
    "imagecodecs": {"act_data.store.zarr2"},
    "simplejpeg": {"act_data.store.jpeg"},
    "PIL": {"act_data.store.jpeg", "act_data.decode", "act_data.convert.lerobot.png"},
    "av": {"act_data.convert.lerobot.video"},
    "pyarrow": {"act_data.convert.lerobot.table_reader", "act_data.convert.lerobot.table_writer"},
    "mujoco": {"act_model.sim.world"},
    "gym_aloha": {"act_model.sim.world"},
    "dm_control": set(),  # slower than MuJoCo itself, and opens a window system
    "fcntl": {"act_data.store.lock"},
    "fsspec": {"act_data.store.remote"},
    "defusedxml": {"act_model.safety.urdf"},
    "pinocchio": {"act_model.safety.kinematics"},
    "sqlalchemy": {"act_data.registry"},
    "psycopg": {"act_data.completion"},
    "sqlite3": {"act_data.registry", "act_data.completion"},
    "platformdirs": {"act_data.place", "act_data.convert"},
    "apsw": {"act_data.sources"},
    "zstandard": {"act_data.sources"},
    "ruamel": {"act_data.robot", "act_data.sources"},
    "torch": {"act_model"},
    "diffusers": {"act_model.families.diffusion.noise"},
    "torchvision": {"act_model.nn.backbone", "act_model.transforms"},
    "safetensors": {"act_model"},
    "pickletools": {"act_model.legacy.pickled"},
    "onnx": {"act_model.export.onnx_file"},
    "onnxruntime": {"act_model.export.onnx_policy"},
    "typer": {"cli"},
    "click": {"cli"},
    "rich": {"cli"},
}
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc", "core"}
FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "marshal", "shelve"}

FILES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str | None:
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        if ".".join(parts[:n]) in LEVEL:
            return ".".join(parts[:n])
    return None


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def is_package_root(path: Path) -> bool:
    return path.name == "__init__.py" and path.parent.parent == ROOT


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    if is_package_root(path) and path.parent.name != "cli":
        assert not {m for m in imports(path) if m.startswith(PACKAGES)}, "a package root is empty"
        return
    here = room_of(module_of(path))
    assert here is not None, f"{path} is in no room: add it to LAYERS"
    up = {
        module
        for module in imports(path)
        if (there := room_of(module)) and there != here and LEVEL[there] >= LEVEL[here]
    }
    assert not up, f"{path.relative_to(ROOT)} imports {sorted(up)}, which is not below it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_outside_libraries_have_one_door(path: Path) -> None:
    module = module_of(path)
    for name in imports(path):
        library = name.split(".")[0]
        assert library not in FORBIDDEN_MODULES, f"{module} imports {library}"
        doors = DOORS.get(library)
        if doors is not None:
            inside = any(module == door or module.startswith(door + ".") for door in doors)
            assert inside, f"{module} imports {library}; its door is {sorted(doors)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_room_has_a_name_that_means_nothing(path: Path) -> None:
    names = set(path.relative_to(ROOT).with_suffix("").parts)
    assert not names & FORBIDDEN_NAMES


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_data_is_ever_executed(path: Path) -> None:
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"eval", "exec", "compile", "__import__"}


def test_a_planted_upward_import_is_found(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("from act_data.ingest import ingest\n")
    assert any(
        LEVEL[room] > LEVEL["act_data.types"]
        for module in imports(planted)
        if (room := room_of(module))
    )
