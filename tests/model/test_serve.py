"""A policy behind a websocket: what a session gets, and what it is refused."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidStatus

from act_data.errors import InputError, NotFoundError
from act_model.policy import Policy
from act_model.serve import server as server_module
from act_model.serve import wire
from act_model.serve.access import Access, access_of
from act_model.serve.client import (
    MissedError,
    PolicyClient,
    RefusedError,
    UnreachableError,
)
from tests.model.serving import (
    Slow,
    ask,
    greet,
    hear,
    opened,
    openpi_packed,
    openpi_unpacked,
    packed,
    serving,
    until,
)
from tests.model.small_policy import K

Observation = dict[str, NDArray[np.generic]]


def numbered(observation: Observation, number: float) -> dict[str, Any]:
    return packed(observation | {"qpos": np.full(3, number, np.float32)})


def get(url: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url.replace("ws", "http", 1), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.read().decode()


# --- our protocol -----------------------------------------------------------------------------


def test_the_client_gets_what_the_policy_predicts(policy: Policy, observation: Observation) -> None:
    with serving(policy) as running, PolicyClient(running.url) as client:
        for _ in range(3):
            actions = client.predict(observation)
            assert np.array_equal(actions, policy.predict(observation))
        assert client.contract == policy.contract.model_dump(mode="json")
        assert client.step == 1
        code, text = get(running.url + "/metrics")
    assert code == 200
    assert 'act_serve_requests_total{outcome="done"} 3' in text
    assert "act_serve_inference_seconds_count 3" in text
    assert "act_serve_sessions_total 1" in text


def test_python_numbers_arrive_as_the_contract_wants_them(
    policy: Policy, observation: Observation
) -> None:
    doubles = observation | {"qpos": observation["qpos"].astype(np.float64)}
    with serving(policy) as running, PolicyClient(running.url) as client:
        assert np.array_equal(client.predict(doubles), policy.predict(observation))


def test_an_observation_that_does_not_fit_is_refused_and_the_session_goes_on(
    policy: Policy, observation: Observation
) -> None:
    with serving(policy) as running, PolicyClient(running.url) as client:
        with pytest.raises(RefusedError, match=r"images/side: policy \(24, 40, 3\) uint8, robot"):
            client.predict({k: v for k, v in observation.items() if k != "images/side"})
        with pytest.raises(RefusedError, match="finite"):
            client.predict(observation | {"qpos": np.full(3, np.nan, np.float32)})
        assert client.predict(observation).shape == (K, 3)
        assert running.metrics.outcomes["refused"] == 2
        assert running.metrics.accepted == 1


def test_the_newest_observation_wins_and_every_request_gets_an_answer(
    policy: Policy, observation: Observation
) -> None:
    slow = Slow(policy)
    with serving(slow) as running, opened(running) as connection:
        greet(connection)
        ask(connection, numbered(observation, 0), 0)
        until(lambda: slow.asked)
        for number in (1, 2, 3):
            ask(connection, numbered(observation, number), number)
        dropped = [hear(connection) for _ in range(2)]
        slow.go.release(2)
        answers = [hear(connection) for _ in range(2)]
    assert slow.asked == [0, 3]
    assert [(d["id"], d["reason"]) for d in dropped] == [(1, "superseded"), (2, "superseded")]
    assert [(a["id"], a["type"]) for a in answers] == [(0, "actions"), (3, "actions")]
    assert answers[1]["queued_ms"] > 0


def test_a_request_whose_time_has_passed_is_not_predicted(
    policy: Policy, observation: Observation
) -> None:
    slow = Slow(policy)
    with serving(slow) as running, opened(running) as connection:
        greet(connection)
        ask(connection, numbered(observation, 0), 0)
        until(lambda: slow.asked)
        ask(connection, numbered(observation, 1), 1, within_ms=20)
        time.sleep(0.1)
        slow.go.release()
        assert hear(connection)["type"] == "actions"
        late = hear(connection)
        assert (late["id"], late["reason"]) == (1, "expired")
        slow.go.release()
        ask(connection, numbered(observation, 2), 2, within_ms=5000)
        assert hear(connection)["id"] == 2
    assert slow.asked == [0, 2]


def test_one_client_at_a_time_commands_and_the_next_may_when_it_goes(
    policy: Policy, observation: Observation
) -> None:
    with serving(policy) as running, PolicyClient(running.url) as second:
        with PolicyClient(running.url) as first:
            first.predict(observation)
            with pytest.raises(MissedError, match="another client"):
                second.predict(observation)
            first.predict(observation)
        until(lambda: running.metrics.connections == 1)
        assert second.predict(observation).shape == (K, 3)
        assert running.metrics.outcomes["busy"] == 1


def test_health_and_metrics_answer_while_the_policy_hangs(
    policy: Policy, observation: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(policy)
    with serving(slow) as running, opened(running) as connection:
        greet(connection)
        assert get(running.url + "/healthz") == (200, "ok\n")
        ask(connection, packed(observation))
        until(lambda: slow.asked)
        began = time.monotonic()
        assert get(running.url + "/healthz") == (200, "ok\n")
        assert get(running.url + "/metrics")[0] == 200
        assert time.monotonic() - began < 2
        monkeypatch.setattr(server_module, "_STUCK_S", 0.0)
        code, text = get(running.url + "/healthz")
        assert code == 503
        assert "a prediction has been running for" in text
        slow.go.release()
        assert hear(connection)["type"] == "actions"
        assert get(running.url + "/healthz") == (200, "ok\n")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(RuntimeError("secret path /home/robot"), id="error"),
        pytest.param(np.full((K, 3), np.nan, np.float32), id="not-finite"),
    ],
)
def test_a_policy_that_fails_sends_no_actions_and_no_traceback(
    policy: Policy,
    observation: Observation,
    answer: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    slow = Slow(policy)
    slow.answer = answer
    slow.go.release(2)
    with serving(slow) as running, opened(running) as connection:
        greet(connection)
        ask(connection, packed(observation))
        said = hear(connection)
        assert (said["type"], said["id"], said["reason"]) == ("refused", 1, "policy")
        assert "secret" not in repr(said)
        assert "Traceback" not in repr(said)
        slow.answer = None
        ask(connection, packed(observation), 2)
        assert hear(connection)["type"] == "actions"
        assert running.metrics.outcomes["failed"] == 1
    assert ("secret" in caplog.text) == isinstance(answer, Exception), "it is told on our side"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"protocol": 2}, "version 1", id="version"),
        pytest.param({"contract_digest": "0" * 64}, "another contract", id="contract"),
        pytest.param({"client": ""}, "no name", id="nameless"),
        pytest.param({"client": "x" * 65}, "no name", id="long-name"),
        pytest.param({"type": "infer"}, "type 'hello'", id="type"),
        pytest.param({"more": 1}, "type 'hello'", id="unknown-key"),
    ],
)
def test_a_hello_that_does_not_fit_ends_the_session(
    policy: Policy, change: dict[str, Any], says: str
) -> None:
    with serving(policy) as running, opened(running) as connection:
        hear(connection)
        hello = {"type": "hello", "protocol": 1, "contract_digest": None, "client": "test"}
        connection.send(msgpack.packb(hello | change))
        said = hear(connection)
        assert said["reason"] == "hello"
        assert says in said["message"]
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=5)


def test_a_client_made_for_another_contract_refuses_the_server(
    policy: Policy, observation: Observation
) -> None:
    with serving(policy) as running:
        with (
            PolicyClient(running.url, contract_digest="0" * 64) as client,
            pytest.raises(RefusedError, match="another contract"),
        ):
            client.predict(observation)
        digest = policy.contract.digest()
        with PolicyClient(running.url, contract_digest=digest) as client:
            client.predict(observation)


def test_the_largest_observation_of_the_contract_fits_and_nothing_much_larger(
    policy: Policy, observation: Observation
) -> None:
    limit = wire.max_bytes(policy.contract)
    size = sum(array.nbytes for array in observation.values())
    assert size < limit < size + 2**17
    with serving(policy) as running, opened(running) as connection:
        assert greet(connection)["max_bytes"] == limit
        connection.send(bytes(limit + 1))
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        assert get(running.url + "/healthz")[0] == 200


# --- openpi's protocol ------------------------------------------------------------------------


def openpi_forms(policy: Policy, observation: Observation) -> dict[str, Any]:
    top, side = observation["images/top"], observation["images/side"]
    rest = {"depth/top": observation["depth/top"], "prompt": "pour tea"}
    doubles = observation["qpos"].astype(np.float64)
    return {
        "flat": {**observation},
        "nested": {"state": doubles, "images": {"top": top, "side": side}, **rest},
        "channels-first": {
            "state": doubles,
            "images": {
                name: np.ascontiguousarray(np.moveaxis(picture, -1, 0))
                for name, picture in (("top", top), ("side", side))
            },
            **rest,
        },
        "prefixed": {f"observation/{name}": array for name, array in observation.items()},
    }


@pytest.mark.parametrize("form", ["flat", "nested", "channels-first", "prefixed"])
def test_an_openpi_client_gets_metadata_and_then_actions(
    policy: Policy, observation: Observation, form: str
) -> None:
    with serving(policy) as running, opened(running, own=False) as connection:
        metadata = openpi_unpacked(connection.recv(timeout=10))
        assert metadata["contract_digest"] == policy.contract.digest()
        for _ in range(2):
            said = openpi_packed(openpi_forms(policy, observation)[form])
            connection.send(msgpack.packb(said))
            answer = openpi_unpacked(connection.recv(timeout=10))
            assert np.array_equal(answer["actions"], policy.predict(observation))
            assert answer["server_timing"]["infer_ms"] > 0


def test_an_openpi_client_is_told_what_is_wrong_in_a_text(
    policy: Policy, observation: Observation
) -> None:
    with serving(policy) as running, opened(running, own=False) as connection:
        connection.recv(timeout=10)
        connection.send(msgpack.packb({"prompt": "pour tea"}))
        said = connection.recv(timeout=10)
        assert isinstance(said, str)
        assert "qpos: policy (3,) float32, robot nothing" in said
        connection.send(msgpack.packb(openpi_packed(observation)))
        assert isinstance(connection.recv(timeout=10), bytes)


# --- access -----------------------------------------------------------------------------------


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    file.chmod(0o600)
    return file


def test_nothing_but_health_without_the_token(
    policy: Policy, observation: Observation, token_file: Path
) -> None:
    access = access_of("127.0.0.1:0", token_file=token_file, tls_cert=None, tls_key=None)
    with serving(policy, access) as running:
        assert get(running.url + "/healthz")[0] == 200
        assert get(running.url + "/metrics")[0] == 401
        for wrong in ("Bearer 0123456789abcdee", "Bearer", "Basic 0123456789abcdef", "Bearer é"):
            assert get(running.url + "/metrics", Authorization=wrong)[0] == 401
        for right in ("Bearer 0123456789abcdef", "Api-Key 0123456789abcdef"):
            assert get(running.url + "/metrics", Authorization=right)[0] == 200
        with (
            PolicyClient(running.url, token="wrong") as client,
            pytest.raises(RefusedError, match="401"),
        ):
            client.predict(observation)
        with PolicyClient(running.url, token="0123456789abcdef") as client:
            client.predict(observation)
        assert running.metrics.turned_away == 6


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_tls_is_spoken_and_the_certificate_checked(
    policy: Policy,
    observation: Observation,
    token_file: Path,
    certificate: tuple[Path, Path],
) -> None:
    cert, key = certificate
    access = access_of("127.0.0.1:0", token_file=token_file, tls_cert=cert, tls_key=key)
    token = "0123456789abcdef"
    with serving(policy, access) as running:
        url = access.url(running.port)
        assert url.startswith("wss://127.0.0.1:")
        with PolicyClient(url, token=token, ca_file=str(cert)) as client:
            assert np.array_equal(client.predict(observation), policy.predict(observation))
        with (
            PolicyClient(url, token=token) as client,
            pytest.raises(RefusedError, match="certificate"),
        ):
            client.predict(observation)
        with (
            PolicyClient(running.url, token=token, timeout_s=0.3) as client,
            pytest.raises(UnreachableError),
        ):
            client.predict(observation)


def at_socket(file: Path) -> Access:
    return access_of(f"unix:{file}", token_file=None, tls_cert=None, tls_key=None)


def test_a_socket_file_serves_its_user_alone(
    policy: Policy, observation: Observation, tmp_path: Path
) -> None:
    file = tmp_path / "act.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(file))  # what a server that was killed leaves
    with serving(policy, at_socket(file)) as running:
        assert running.url == f"unix:{file}"
        assert file.stat().st_mode & 0o777 == 0o600
        with PolicyClient(running.url) as client:
            assert np.array_equal(client.predict(observation), policy.predict(observation))
        with pytest.raises(InputError, match="another server is at"):
            at_socket(file)
    with PolicyClient(f"unix:{file}", timeout_s=0.2) as client, pytest.raises(UnreachableError):
        client.predict(observation)


def test_a_socket_file_that_will_not_do_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match="is no socket"):
        at_socket(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    with pytest.raises(NotFoundError, match="no folder"):
        at_socket(tmp_path / "gone" / "act.sock")
    with pytest.raises(InputError, match="longer than the 107 bytes"):
        at_socket(tmp_path / ("x" * 107))
    with pytest.raises(InputError, match="has no TLS"):
        access_of("unix:act.sock", token_file=None, tls_cert=tmp_path, tls_key=tmp_path)


@pytest.mark.parametrize(
    ("bind", "says"),
    [
        pytest.param("0.0.0.0:8765", "others can reach", id="everywhere"),
        pytest.param("[::]:8765", "others can reach", id="everywhere-v6"),
        pytest.param("192.168.1.5:8765", "others can reach", id="network"),
        pytest.param("robot:8765", "no address", id="name"),
        pytest.param("127.0.0.1", "ADDRESS:PORT", id="no-port"),
        pytest.param("127.0.0.1:70000", "ADDRESS:PORT", id="large-port"),
        pytest.param("::1:80", "ADDRESS:PORT", id="v6-without-brackets"),
        pytest.param(":80", "ADDRESS:PORT", id="nothing"),
    ],
)
def test_an_address_that_will_not_do_is_refused(bind: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        access_of(bind, token_file=None, tls_cert=None, tls_key=None)


def test_others_are_served_with_token_and_tls_only(
    token_file: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    for options in (
        {"token_file": token_file, "tls_cert": None, "tls_key": None},
        {"token_file": None, "tls_cert": cert, "tls_key": key},
    ):
        with pytest.raises(InputError, match="a token and TLS are needed"):
            access_of("0.0.0.0:0", **options)
    access = access_of("0.0.0.0:0", token_file=token_file, tls_cert=cert, tls_key=key)
    assert isinstance(access.tls, ssl.SSLContext)


def test_a_bad_token_file_or_certificate_is_refused(
    token_file: Path, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = certificate

    def refuse(kind: type[Exception], says: str, **options: Path | None) -> None:
        none = {"token_file": None, "tls_cert": None, "tls_key": None}
        with pytest.raises(kind, match=says):
            access_of("127.0.0.1:0", **(none | options))

    refuse(NotFoundError, "--token-file", token_file=tmp_path / "gone")
    refuse(NotFoundError, "--tls-cert", tls_cert=tmp_path / "gone", tls_key=key)
    refuse(InputError, "both files", tls_cert=cert)
    refuse(InputError, "no certificate", tls_cert=key, tls_key=cert)
    token_file.write_text("short")
    refuse(InputError, "no token", token_file=token_file)
    token_file.chmod(0o644)
    refuse(InputError, "others can read", token_file=token_file)
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "ec", "-aes128", "-passout", "pass:secret", "-in", key, "-out", locked],
        check=True, capture_output=True,
    )  # fmt: skip
    refuse(InputError, "encrypted", tls_cert=cert, tls_key=locked)


def test_a_page_in_a_browser_is_turned_away(policy: Policy) -> None:
    with (
        serving(policy) as running,
        pytest.raises(InvalidStatus, match="403"),
        opened(running, origin="http://evil.example"),
    ):
        pass
