"""Clients that are not ours, and ours on a Python that is not ours, in sessions with `serve`.

    python benchmarks/foreign_clients.py            # makes small environments, once
    python benchmarks/foreign_clients.py --quick    # our client alone in a process: no download
    python benchmarks/foreign_clients.py --json

openpi   openpi-client as it is on PyPI: metadata, `infer`, its ActionChunkBroker, a refused
         observation, and on
old      act_model/serve/client.py alone on Python 3.8, with numpy, msgpack and websockets only

Each must get, to the bit, what `Policy.predict` says here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent))

OPENPI = ("openpi-client==0.1.2", "typing_extensions")  # which it needs and does not ask for
CLIENT = ("numpy", "msgpack", "websockets>=13")
OPENPI_SESSION = """
import sys
import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy

port, folder = int(sys.argv[1]), sys.argv[2]
seen = dict(np.load(folder + "/seen.npz"))
nested = {"state": seen.pop("qpos").astype(np.float64), "prompt": "reach", "images": {
    name.split("/")[1]: np.moveaxis(picture, -1, 0).copy() for name, picture in seen.items()}}
client = WebsocketClientPolicy("127.0.0.1", port)
assert client.get_server_metadata()["server"] == "act-toolkit"
actions = client.infer(nested)["actions"]
broker = ActionChunkBroker(client, action_horizon=4)
steps = [broker.infer(nested)["actions"] for _ in range(8)]
assert np.array_equal(np.stack(steps), np.concatenate([actions[:4], actions[:4]]))
try:
    client.infer({"prompt": "reach"})
except RuntimeError as e:
    assert "qpos" in str(e) and "Traceback" not in str(e), e
else:
    raise AssertionError("an observation without a state was taken")
np.save(folder + "/actions.npy", client.infer(nested)["actions"])
"""
OUR_SESSION = """
import sys
import numpy as np

port, folder = int(sys.argv[1]), sys.argv[2]
sys.path[0] = folder
import act_client
assert not {"torch", "act_model", "act_data"} & set(sys.modules)
seen = dict(np.load(folder + "/seen.npz"))
with act_client.PolicyClient("ws://127.0.0.1:%d" % port) as client:
    np.save(folder + "/actions.npy", client.predict(seen, within_ms=5000))
"""


def session(python: Path, script: str, port: int, folder: Path, expected: Any) -> dict[str, Any]:
    import numpy as np

    (folder / "session.py").write_text(script)
    done = subprocess.run(
        [python, "-W", "ignore", folder / "session.py", str(port), folder],
        capture_output=True,
        text=True,
        env={},
    )
    if done.returncode:
        raise SystemExit(f"{python}:\n{done.stderr}")
    version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout
    equal = np.array_equal(np.load(folder / "actions.npy"), expected)
    return {"python": version.split()[1], "equal": bool(equal)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    import numpy as np

    from act_model.config import ModelConfig
    from act_model.policy import Policy
    from act_model.serve import client
    from benchmarks.peers import python_with
    from benchmarks.peers.serving import observation, save_checkpoint, served

    picture = (96, 128)
    model = ModelConfig(
        state_dim=14, action_dim=14, cameras=("top", "wrist"), image_size=picture, hidden_dim=64,
        heads=4, feedforward_dim=64, chunk_size=20, encoder_layers=1, decoder_layers=1,
    )  # fmt: skip
    seen = observation(model, picture)
    rows = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "seen.npz", **seen)  # type: ignore[arg-type]
        shutil.copy(client.__file__, folder / "act_client.py")
        checkpoint = save_checkpoint(folder / "best", model, picture)
        expected = Policy.load(checkpoint, "cpu").predict(seen)
        pythons: dict[str, tuple[Path | None, str]] = {
            "our client alone": (Path(sys.executable), OUR_SESSION)
        }
        if not args.quick:
            old = python_with("serve-client", CLIENT, ("python3.8", "python3.9"))
            pythons |= {
                "our client, old": (old, OUR_SESSION),
                "openpi-client": (python_with("openpi-client", OPENPI), OPENPI_SESSION),
            }
        for what, (python, script) in pythons.items():
            if python is not None:
                with served(checkpoint) as url:
                    port = int(url.rpartition(":")[2])
                    rows.append({"name": what, **session(python, script, port, folder, expected)})
    if args.json:
        print(json.dumps({"rows": rows}, indent=2))
        return
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
