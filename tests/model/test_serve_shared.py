"""Pictures that a client of this machine shares with the server, instead of sending them."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed

from act_model.policy import Policy
from act_model.serve import client as client_module
from act_model.serve import shared as shared_module
from act_model.serve import wire
from act_model.serve.client import PolicyClient
from act_model.serve.server import serve_policy
from act_model.serve.shared import NONCE_BYTES, PREFIX, Segment
from tests.model.memory_dataset import MemoryDataset
from tests.model.serving import LOCAL, ask, greet, hear, opened, packed, serving
from tests.model.small_policy import save_checkpoint

Observation = dict[str, NDArray[np.generic]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this server's files in memory are, and nobody else's."""
    monkeypatch.setattr(shared_module, "FOLDER", tmp_path)
    monkeypatch.setattr(
        client_module, "_SHARED_FILES", client_module.re.compile(rf"{tmp_path}/act-serve-\w+")
    )
    return tmp_path


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How long the messages were that were packed, on either side."""
    lengths: list[int] = []
    whole = msgpack.packb

    def packb(message: object) -> bytes:
        data: bytes = whole(message)
        lengths.append(len(data))
        return data

    monkeypatch.setattr(client_module.msgpack, "packb", packb)
    return lengths


def test_what_lies_in_shared_memory_is_not_sent_and_changes_no_bit(
    policy: Policy, observation: Observation, folder: Path, sent: list[int]
) -> None:
    other = {name: array[::-1].copy() for name, array in observation.items()}
    with serving(policy) as running, PolicyClient(running.url) as client:
        for seen in (observation, other, observation):
            assert np.array_equal(client.predict(seen), policy.predict(seen))
    size = sum(array.nbytes for array in observation.values())
    assert max(sent) < size / 2


def test_the_file_has_lost_its_name_before_the_first_observation_and_a_session_has_its_own(
    policy: Policy, observation: Observation, folder: Path
) -> None:
    with serving(policy) as running:
        with opened(running) as connection:
            offer = hear(connection)["shared"]
            assert [str(path) for path in folder.iterdir()] == [offer["path"]]
            assert Path(offer["path"]).stat().st_mode & 0o777 == 0o600
            assert Path(offer["path"]).read_bytes()[:NONCE_BYTES] == offer["nonce"]
        eventually_empty(folder)
        with PolicyClient(running.url) as one, PolicyClient(running.url) as two:
            one.predict(observation)
            two.connect()
            eventually_empty(folder)
            assert one._shared is not None
            assert two._shared is not None
            two._shared[:] = 0
            assert one._shared.any()


def eventually_empty(folder: Path) -> None:
    deadline = time.monotonic() + 10
    while list(folder.iterdir()):
        assert time.monotonic() < deadline, list(folder.iterdir())
        time.sleep(0.01)


@pytest.mark.parametrize(
    "harm",
    ["gone", "link", "other nonce", "shorter", "a folder", "elsewhere", "not a map", "no size"],
)
def test_a_client_opens_nothing_but_the_servers_own_file_and_sends_instead(
    policy: Policy, observation: Observation, folder: Path, harm: str, sent: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    precious = folder / "precious"
    precious.write_bytes(b"x" * 100_000)
    whole = client_module._shared_memory

    def harmed(offer: Any) -> Any:
        path = Path(offer["path"])
        if harm == "gone":
            path.unlink()
        elif harm == "link":
            path.unlink()
            path.symlink_to(precious)
        elif harm == "other nonce":
            offer["nonce"] = bytes(NONCE_BYTES)
        elif harm == "shorter":
            os.truncate(path, NONCE_BYTES + 10)
        elif harm == "a folder":
            path.unlink()
            path.mkdir()
        elif harm == "elsewhere":
            offer["path"] = str(precious)
        elif harm == "not a map":
            offer = [offer]
        elif harm == "no size":
            del offer["bytes"]
        got = whole(offer)
        if harm == "a folder":
            path.rmdir()
        return got

    monkeypatch.setattr(client_module, "_shared_memory", harmed)
    with serving(policy) as running, PolicyClient(running.url) as client:
        assert np.array_equal(client.predict(observation), policy.predict(observation))
        assert client._shared is None
    assert max(sent) > sum(array.nbytes for array in observation.values())
    assert precious.read_bytes() == b"x" * 100_000


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.ENOENT])
def test_where_there_is_no_room_in_memory_observations_are_sent(
    policy: Policy, observation: Observation, folder: Path, error: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(shared_module.os, "posix_fallocate", refuse)
    with serving(policy) as running:
        with opened(running) as connection:
            assert greet(connection)["shared"] is None
        with PolicyClient(running.url) as client:
            assert np.array_equal(client.predict(observation), policy.predict(observation))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "at",
    [-1, 2**40, 2**63, True, 0.0, "0", None, [0]],
)
def test_a_place_that_is_none_ends_the_session(
    policy: Policy, observation: Observation, folder: Path, at: object
) -> None:
    arrays = packed(observation)
    del arrays["images/top"]["data"]
    with serving(policy) as running:
        with opened(running) as connection:
            greet(connection)
            ask(connection, arrays | {"images/top": arrays["images/top"] | {"at": at}})
            said = hear(connection)
            assert said["reason"] == "malformed"
            assert "images/top" in said["message"]
            with pytest.raises(ConnectionClosed):
                connection.recv(timeout=5)
        with PolicyClient(running.url) as client:
            client.predict(observation)


def test_memory_ends_where_it_was_said_to_end(folder: Path) -> None:
    segment = Segment(100)
    assert segment.read(0, 100) == bytes(100)
    assert segment.read(100, 0) == b""
    for at, count in ((0, 101), (1, 100), (-1, 5), (101, 0), (-NONCE_BYTES, NONCE_BYTES)):
        with pytest.raises(ValueError, match="bytes at"):
            segment.read(at, count)
    segment.close()
    assert list(folder.iterdir()) == []


def test_an_array_with_a_place_needs_memory_that_is_shared() -> None:
    with pytest.raises(Exception, match="lies in no memory"):
        wire.array_of("top", {"dtype": "uint8", "shape": [2], "at": 0})


def test_when_it_has_served_signals_are_this_programs_again(
    dataset: MemoryDataset, tmp_path: Path
) -> None:
    folder = save_checkpoint(tmp_path / "best", dataset, depth=("top",))
    report = serve_policy(folder, LOCAL, ready=lambda url: os.kill(os.getpid(), signal.SIGINT))
    assert report.sessions == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_files_are_named_as_the_client_expects_them() -> None:
    assert client_module._SHARED_FILES.pattern == rf"{shared_module.FOLDER}/{PREFIX}\w+"
