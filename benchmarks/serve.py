"""What serving adds to inference: an observation there and a chunk back, over loopback.

    python benchmarks/serve.py            # 3 cameras 480x640, beside pickle over gRPC
    python benchmarks/serve.py --quick    # ours only, small pictures: no download
    python benchmarks/serve.py --json

ours    our client against `act-model serve` on the same machine, with which it shares memory for
        what it sees: the round trip minus the inference that the server reports with every answer,
        so what is left is copying, packing, sockets, checking, queueing
ours, unix  the same through a socket file
ours, sent  the same with everything in the message, as between two machines
socket  as many bytes there and back over a plain TCP connection: nothing can be faster
websocket  the same through the library that ours uses, with nothing else at either end
pickle  what LeRobot's asynchronous inference does (0.4 to 0.6: lerobot/async_inference and
        transport): the observation is pickled, streamed in parts of 2 MB to a gRPC server, which
        puts them together, unpickles them, and sends a pickled chunk back

In turns, each in its own process. The peer's grpcio lives in an environment of its own. Where there
is no policy the server works for as long as one all the same, reads as much memory as one, and what
it took is left out: whoever waits is asleep then, and caches hold something else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pickle
import random
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent.parent))
GRPC = ("grpcio==1.76.0", "numpy")
PART = 2 * 2**20
WORK_S = 0.02
WEIGHTS = bytes(45_000_000)  # as many as those of a ResNet18


def work() -> float:
    """In place of an inference; what it took, in milliseconds."""
    start = time.perf_counter()
    WEIGHTS.count(1)
    while time.perf_counter() < start + WORK_S:
        pass
    return (time.perf_counter() - start) * 1e3


# --- the peer: both ends run in its environment -----------------------------------------------


def peer_server(port: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    import numpy as np

    def answer(parts: Any, _: Any) -> bytes:
        pickle.loads(b"".join(parts))
        return pickle.dumps((np.zeros((100, 14), np.float32), work()))

    server = grpc.server(ThreadPoolExecutor(4))
    handler = grpc.stream_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("peer", {"ask": handler}),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def peer_client(port: int, cameras: int, height: int, width: int) -> None:
    """One round trip for each line on stdin."""
    import grpc
    import numpy as np

    rng = np.random.default_rng(0)
    shape = (height, width, 3)
    seen = {f"images/{n}": rng.integers(0, 256, shape, np.uint8) for n in range(cameras)}
    seen["qpos"] = np.zeros(14)
    ask = grpc.insecure_channel(f"127.0.0.1:{port}").stream_unary("/peer/ask")
    for _ in sys.stdin:
        start = time.perf_counter()
        data = pickle.dumps(seen)
        parts = (data[at : at + PART] for at in range(0, len(data), PART))
        _, worked_ms = pickle.loads(ask(parts, wait_for_ready=True))
        print((time.perf_counter() - start) * 1e3 - worked_ms, flush=True)


# --- in turns ---------------------------------------------------------------------------------


def ours(
    stack: ExitStack,
    cameras: int,
    picture: tuple[int, int],
    *,
    unix: bool = False,
    shared: bool = True,
) -> Callable[[], float]:
    """A round trip's milliseconds without inference, on each call."""
    from act_model.config import ModelConfig
    from act_model.serve import client as client_module
    from benchmarks.peers.serving import observation, save_checkpoint, served

    model = ModelConfig(
        state_dim=14, action_dim=14, cameras=tuple(f"cam_{n}" for n in range(cameras)),
        image_size=(32, 32), hidden_dim=32, heads=2, feedforward_dim=32, encoder_layers=1,
        decoder_layers=1, style_layers=1,
    )  # fmt: skip
    folder = Path(stack.enter_context(TemporaryDirectory()))
    bind = f"unix:{folder / 'act.sock'}" if unix else "127.0.0.1:0"
    url = stack.enter_context(served(save_checkpoint(folder / "best", model, picture), bind))
    client = stack.enter_context(client_module.PolicyClient(url))
    with ExitStack() as meanwhile:
        if not shared:  # as if the server's file were not on this machine
            meanwhile.enter_context(patch.object(client_module, "_shared_memory", lambda _: None))
        client.connect()
    seen = observation(model, picture)

    def trip() -> float:
        start = time.perf_counter()
        client.predict(seen)
        return (time.perf_counter() - start) * 1e3 - client.infer_ms

    return trip


def plain(stack: ExitStack, kind: str, there: int, back: int) -> Callable[[], float]:
    """A round trip of `there` and `back` bytes, on each call. Args: kind: socket or websocket."""
    server = stack.enter_context(
        subprocess.Popen(
            [sys.executable, HERE, "--plain-server", kind, str(there), str(back)],
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    stack.callback(server.kill)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    data = random.randbytes(there)
    if kind == "websocket":
        from websockets.sync.client import connect

        from act_model.serve.client import keep_freed_memory

        keep_freed_memory()
        url = f"ws://127.0.0.1:{port}"
        talk = stack.enter_context(connect(url, compression=None, max_size=None, proxy=None))

        def exchange() -> bytes:
            talk.send(data)
            return bytes(talk.recv(decode=False))
    else:
        line = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        answer = memoryview(bytearray(back))

        def exchange() -> bytes:
            line.sendall(data)
            _fill(line, answer)
            return bytes(answer[:8])

    def trip() -> float:
        start = time.perf_counter()
        worked_ms: float
        (worked_ms,) = struct.unpack("d", exchange()[:8])
        return (time.perf_counter() - start) * 1e3 - worked_ms

    return trip


def plain_server(kind: str, there: int, back: int) -> None:
    """Answers each message of `there` bytes with `back`."""
    rest = bytes(back - 8)
    if kind == "websocket":
        from act_model.serve.client import keep_freed_memory

        keep_freed_memory()
        asyncio.run(_websocket_server(rest))
        return
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        line, _ = listening.accept()
        data = memoryview(bytearray(there))
        while _fill(line, data):
            line.sendall(struct.pack("d", work()) + rest)


async def _websocket_server(rest: bytes) -> None:
    from websockets.asyncio.server import ServerConnection, serve

    async def talk(connection: ServerConnection) -> None:
        async for _ in connection:
            await connection.send(struct.pack("d", work()) + rest)

    async with serve(talk, "127.0.0.1", 0, compression=None, max_size=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.Future()


def _fill(line: socket.socket, data: memoryview) -> bool:
    """Receive until `data` is full; False at the end of the connection."""
    got = 0
    while got < len(data):
        received = line.recv_into(data[got:])
        if not received:
            return False
        got += received
    return True


def pickled(
    stack: ExitStack, python: Path, cameras: int, picture: tuple[int, int]
) -> Callable[[], float]:
    """A round trip's milliseconds, on each call."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    server = stack.enter_context(subprocess.Popen([python, HERE, "--peer-server", port]))
    stack.callback(server.kill)
    client = stack.enter_context(
        subprocess.Popen(
            [python, HERE, "--peer-client", port, str(cameras), *map(str, picture)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    )
    stack.callback(client.kill)

    def trip() -> float:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write("\n")
        client.stdin.flush()
        return float(client.stdout.readline())

    return trip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trips", type=int, default=200)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cameras, picture = (1, (48, 64)) if args.quick else (3, (480, 640))
    trips = 5 if args.quick else args.trips
    with ExitStack() as stack:
        contenders = {
            "ours": ours(stack, cameras, picture),
            "ours, unix": ours(stack, cameras, picture, unix=True),
            "ours, sent": ours(stack, cameras, picture, shared=False),
        }
        there, back = cameras * 3 * picture[0] * picture[1] + 500, 100 * 14 * 4 + 200
        for kind in ("socket", "websocket"):
            contenders[kind] = plain(stack, kind, there, back)
        if not args.quick:
            from benchmarks.peers import python_with

            python = python_with("grpc", GRPC)
            if python is not None:
                contenders["pickle"] = pickled(stack, python, cameras, picture)
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(trips + 10):
            for name, trip in contenders.items():
                taken = trip()
                if turn >= 10:  # the first ones warm up
                    times[name].append(taken)
    rows = [
        {
            "name": name,
            "p50_ms": round(statistics.median(taken), 3),
            "p99_ms": round(sorted(taken)[int(0.99 * (len(taken) - 1))], 3),
        }
        for name, taken in times.items()
    ]
    result: dict[str, Any] = {"cameras": cameras, "picture": list(picture), "trips": trips}
    result["rows"] = rows
    if args.json:
        print(json.dumps(result, indent=2))
        return
    print(f"{cameras} cameras {picture[0]}x{picture[1]}, {trips} round trips, inference left out")
    for row in rows:
        print(f"{row['name']:11} p50 {row['p50_ms']:8.2f} ms  p99 {row['p99_ms']:8.2f} ms")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer-server"]:
        peer_server(int(sys.argv[2]))
    elif sys.argv[1:2] == ["--plain-server"]:
        plain_server(sys.argv[2], *map(int, sys.argv[3:5]))
    elif sys.argv[1:2] == ["--peer-client"]:
        peer_client(*map(int, sys.argv[2:6]))
    else:
        main()
