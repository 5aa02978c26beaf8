"""The client alone: its file, a server that goes or says what none should, and its follower."""

from __future__ import annotations

import ast
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.sync.server import ServerConnection, serve

from act_model.policy import Policy
from act_model.serve import client as client_module
from act_model.serve import server as server_module
from act_model.serve.access import access_of
from act_model.serve.client import SUBPROTOCOL, Follower, PolicyClient, UnreachableError
from tests.model.serving import Slow, serving, until
from tests.model.small_policy import K

Observation = dict[str, NDArray[np.generic]]
HELLO = msgpack.packb(
    {"type": "hello", "protocol": 1, "contract": {}, "contract_digest": "", "step": 3}
)
ACTIONS = np.arange(6, dtype=np.float32).reshape(3, 2)
ANSWER = msgpack.packb(
    {"type": "actions", "id": 1, "infer_ms": 1.0,
     "actions": {"dtype": "float32", "shape": [3, 2], "data": ACTIONS.tobytes()}}
)  # fmt: skip
QPOS: Observation = {"qpos": np.zeros(3, np.float32)}


@contextmanager
def another_server(talk: Callable[[ServerConnection], None]) -> Iterator[str]:
    """The address of a server that is none of ours."""
    with serve(
        talk, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL], compression=None, close_timeout=1
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join(10)
        assert not thread.is_alive()


def test_the_client_is_one_file_of_python_3_8_that_needs_nothing_of_the_toolkit() -> None:
    tree = ast.parse(Path(client_module.__file__).read_text(), feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"msgpack", "numpy", "websockets"}


def test_the_client_finds_a_server_that_comes_back(
    policy: Policy, observation: Observation
) -> None:
    with serving(policy) as running:
        client = PolicyClient(running.url, timeout_s=0.5)
        client.predict(observation)
        port = running.port
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(UnreachableError):
            client.predict(observation)
    assert time.monotonic() - began >= 0.4, "it waited, and did not spin"
    access = access_of(f"127.0.0.1:{port}", token_file=None, tls_cert=None, tls_key=None)
    with serving(policy, access):
        assert client.predict(observation).shape == (K, 3)
    client.close()


def test_a_follower_plays_a_chunk_by_time_and_then_holds(
    policy: Policy, observation: Observation
) -> None:
    """No tick waits, whatever the server does."""
    slow = Slow(policy)
    now_s = [0.0]
    expected = policy.predict(observation)
    with (
        serving(slow) as running,
        Follower(PolicyClient(running.url), clock=lambda: now_s[0]) as follower,
    ):
        assert follower.step(observation) == (None, "hold")
        until(lambda: slow.asked)
        now_s[0] = 2 / 20  # two ticks pass until the answer is there
        assert follower.step(observation) == (None, "hold")
        slow.go.release()
        until(lambda: follower._plan is not None)
        for tick in range(2, K):  # the policy hangs now
            now_s[0] = tick / 20
            action, state = follower.step(observation)
            assert state == "run"
            assert action is not None
            assert np.array_equal(action, expected[tick])
        now_s[0] = K / 20
        action, state = follower.step(observation)
        assert state == "hold"
        assert np.array_equal(action, expected[K - 1])
        slow.go.release(10)


def test_while_the_server_is_away_the_robot_is_held_and_nothing_spins(
    policy: Policy, observation: Observation
) -> None:
    with serving(policy) as running:
        client = PolicyClient(running.url)
        follower = Follower(client)
        until(lambda: follower.step(observation)[1] == "run")
        port = running.port
    until(lambda: follower.step(observation)[1] == "hold")
    used_s, began_s = sum(os.times()[:2]), time.monotonic()
    while time.monotonic() - began_s < 2.0:
        action, state = follower.step(observation)
        assert state == "hold"
        assert action is not None
        time.sleep(0.05)
    assert (sum(os.times()[:2]) - used_s) / (time.monotonic() - began_s) < 0.05
    access = access_of(f"127.0.0.1:{port}", token_file=None, tls_cert=None, tls_key=None)
    with serving(policy, access):
        began_s = time.monotonic()
        until(lambda: follower.step(observation)[1] == "run")
        assert time.monotonic() - began_s < 3.0  # a pause of at most 2 s, and a prediction
        follower.close()


def test_a_message_in_parts_among_pings_is_put_together_and_pings_are_answered() -> None:
    answered = threading.Event()

    def talk(connection: ServerConnection) -> None:
        connection.send(HELLO)
        connection.recv()
        connection.recv()
        answered_each = [connection.ping() for _ in range(3)]
        connection.send(ANSWER[n : n + 7] for n in range(0, len(ANSWER), 7))
        if all(ping.wait(10) for ping in answered_each):
            answered.set()

    with another_server(talk) as url, PolicyClient(url) as client:
        assert np.array_equal(client.predict(QPOS), ACTIONS)
        assert client.step == 3
        until(lambda: client._line is not None and not client._line.lasts())
        assert answered.is_set(), "while nobody waited for a message, too"


@pytest.mark.parametrize(
    "said", ["a text", b"\xc1 no msgpack", msgpack.packb({"type": "wrong"}), b"\x90", None]
)
@pytest.mark.parametrize("first", [True, False])
def test_a_server_that_says_something_else_is_not_there(
    said: str | bytes | None, first: bool
) -> None:
    def talk(connection: ServerConnection) -> None:
        if not first:
            connection.send(HELLO)
            connection.recv()
            connection.recv()
        if said is not None:
            connection.send(said)

    with (
        another_server(talk) as url,
        PolicyClient(url, timeout_s=0.3) as client,
        pytest.raises(UnreachableError),
    ):
        client.predict(QPOS)


def test_an_answer_that_never_ends_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_MAX_ANSWER", 100_000)

    def talk(connection: ServerConnection) -> None:
        connection.send(HELLO)
        connection.recv()
        connection.recv()
        connection.send(bytes(10_000) for _ in range(100))

    with (
        another_server(talk) as url,
        PolicyClient(url, timeout_s=2) as client,
        pytest.raises(UnreachableError, match="1009"),
    ):
        client.predict(QPOS)


def test_a_client_that_says_nothing_for_long_connects_anew(
    policy: Policy, observation: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's pings are answered by who asks; a server must not keep who never does."""
    monkeypatch.setattr(server_module, "_PING_S", 0.2)
    with serving(policy) as running, PolicyClient(running.url) as client:
        expected = client.predict(observation)
        line = client._line
        assert line is not None
        time.sleep(1.0)
        assert np.array_equal(client.predict(observation), expected)
        assert client._line is not line
        assert running.metrics.accepted == 2


def test_closing_a_client_wakes_who_waits_for_an_answer(
    policy: Policy, observation: Observation
) -> None:
    slow = Slow(policy)
    ends: list[BaseException] = []
    with serving(slow) as running:
        client = PolicyClient(running.url, timeout_s=60)

        def wait() -> None:
            try:
                client.predict(observation)
            except UnreachableError as e:
                ends.append(e)

        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: slow.asked)
        client.close()
        thread.join(5)
        assert not thread.is_alive()
        assert len(ends) == 1
        slow.go.release()
