"""Live ROS 1 against the real thing: rosmaster, rospy and roscpp publishers, `rosbag record`."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from act_data.errors import DataError, InputError
from act_data.sources import find_recordings, open_recording
from act_data.sources.live import Arrival, Inbox
from act_data.sources.live.ros1 import Ros1Backend, http, node, publisher, rpc, subscription
from act_data.sources.live.ros1.header import encode_header
from act_data.sources.live.ros1.sockets import Sockets
from act_data.sources.message_types import message_type
from act_data.sources.stamps import HeaderLayout, header_stamp
from tests.bags import JOINT_COMMAND_DEFINITION, u32
from tests.ros1_graph import Ros1Graph, eventually, need_ros1

ROOT = Path(__file__).parents[4]
IMAGE, JOINTS = {"type": "sensor_msgs/Image"}, {"type": "sensor_msgs/JointState"}
VGA = IMAGE | {"size": [480, 640]}
COMMAND = {
    "type": "interbotix_xs_msgs/JointGroupCommand",
    "definition": JOINT_COMMAND_DEFINITION,
}
names = (f"node{n}" for n in count())


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ros1Graph]:
    need_ros1()
    with Ros1Graph(tmp_path_factory.mktemp("ros1")) as graph:
        yield graph


@pytest.fixture
def own_graph(tmp_path: Path) -> Iterator[Ros1Graph]:
    """A master that the test may kill."""
    need_ros1()
    with Ros1Graph(tmp_path) as graph:
        yield graph


@contextmanager
def listening(uri: str, *topics: str) -> Iterator[tuple[Ros1Backend, Inbox]]:
    before = set(threading.enumerate())
    backend, inbox = Ros1Backend(uri), Inbox()
    try:
        backend.subscribe(topics, inbox)
        yield backend, inbox
    finally:
        backend.close()
    assert set(threading.enumerate()) <= before, "every thread ends with close()"


def taken(inbox: Inbox, count: int) -> list[Arrival]:
    """The next `count` arrivals, and no more than that."""
    arrivals: list[Arrival] = []

    def enough() -> bool:
        arrivals.extend(inbox.take(0.05))
        return len(arrivals) >= count

    eventually(enough, f"{count} messages have not arrived")
    assert len(arrivals) == count
    return arrivals


def payloads(arrivals: Sequence[Arrival], topic: str) -> list[bytes]:
    return [bytes(a.payload) for a in arrivals if a.topic == topic]


def stamps(arrivals: Sequence[Arrival], topic: str) -> list[int]:
    ros1 = HeaderLayout("ros1", has_seq=True)
    return [header_stamp(a.payload, ros1)[0] for a in arrivals if a.topic == topic]


def subscribers(uri: str, topic: str) -> list[str]:
    state = rpc.ask(Sockets(), uri, "getSystemState", "/test")
    return dict(state[1]).get(topic, [])


# --- the same as ROS's own recorder --------------------------------------------------------------


def test_every_message_is_that_of_rosbag_record_running_beside(
    graph: Ros1Graph, tmp_path: Path
) -> None:
    topics = {
        "/rec/image": VGA,
        "/rec/joints": JOINTS,
        "/rec/command": COMMAND,
        "/rec/jpeg": {"type": "sensor_msgs/CompressedImage"},
    }
    bag = tmp_path / "beside.bag"
    with (
        graph.publisher("camera", topics) as publisher,
        listening(graph.uri, *topics) as (backend, inbox),
        graph.recording(bag, list(topics)),
    ):
        publisher.wait_for_subscribers(2)
        sent = publisher.publish(60, hz=60)
        arrivals = taken(inbox, 240)
        time.sleep(0.2)  # until the recorder has got the last ones, too
        channels = {topic: backend.channel(topic) for topic in topics}
        sent_stamps = {t: stamps(arrivals, t) for t in topics if t != "/rec/command"}
        assert backend.notes() == ()
    assert sent_stamps == {t: s for t, s in sent.items() if t != "/rec/command"}
    assert [a.recv_ns for a in arrivals] == sorted({a.recv_ns for a in arrivals})

    (recording,) = find_recordings([bag])
    with open_recording(recording) as recorded:
        raws = list(recorded.messages(topics))
        for topic in topics:
            theirs = [bytes(raw.payload) for raw in raws if raw.topic == topic]
            assert len(theirs) == 60
            assert payloads(arrivals, topic) == theirs
            channel, (bag_channel,) = channels[topic], recorded._channels[topic]
            assert channel is not None
            assert (channel.type, channel.encoding) == (bag_channel.type, "ros1")
            assert channel.definition == bag_channel.definition
            assert channel.about == bag_channel.about
            assert channel.about["callerid"] == "/camera"
    command = channels["/rec/command"]
    assert command is not None
    last = message_type(command).deserialize(payloads(arrivals, "/rec/command")[-1])
    assert (last.name, last.cmd.tolist()) == ("arm", [59.0] * 6)


def test_what_roscpp_publishes_arrives_as_it_lies_in_the_bag(graph: Ros1Graph) -> None:
    bag = ROOT / "examples" / "bags" / "reach_00.bag"
    (recording,) = find_recordings([bag])
    with open_recording(recording) as source:
        topics = list(source.topics)
        expected = list(source.messages(topics))
    with listening(graph.uri, *topics) as (backend, inbox):
        graph.play(bag, "-q", "-r", "8", "-d", "1.5", "--queue=1000")
        arrivals = taken(inbox, len(expected))
        published = backend.topics()
    for topic in topics:
        assert payloads(arrivals, topic) == [bytes(r.payload) for r in expected if r.topic == topic]
        assert topic not in published  # the player has left, and unregistered


def test_the_topics_are_those_of_the_graph_in_the_spelling_of_bags(graph: Ros1Graph) -> None:
    with graph.publisher("lister", {"/list/joints": JOINTS, "/list/command": COMMAND}):
        topics = Ros1Backend(graph.uri).topics()
    assert topics["/list/joints"].type == "sensor_msgs/msg/JointState"
    assert topics["/list/command"].type == "interbotix_xs_msgs/msg/JointGroupCommand"
    assert topics["/list/joints"].count is None


def test_a_latched_message_of_before_arrives(graph: Ros1Graph) -> None:
    with graph.publisher("latcher", {"/latched": JOINTS | {"latch": True}}) as publisher:
        (stamp_ns,) = publisher.publish(1)["/latched"]
        with listening(graph.uri, "/latched") as (_, inbox):
            arrivals = taken(inbox, 1)
            assert stamps(arrivals, "/latched") == [stamp_ns]


def test_a_topic_without_its_leading_slash_is_the_same_topic(graph: Ros1Graph) -> None:
    with (
        graph.publisher("slash", {"/slash/joints": JOINTS}) as publisher,
        listening(graph.uri, "slash//joints/") as (backend, inbox),
    ):
        publisher.wait_for_subscribers()
        publisher.publish(3)
        assert {a.topic for a in taken(inbox, 3)} == {"slash//joints/"}
        channel = backend.channel("slash//joints/")
        assert channel is not None
        assert channel.topic == "slash//joints/"


# --- several publishers -------------------------------------------------------------------------


def test_two_publishers_of_one_topic_are_both_heard_told_and_never_mixed(graph: Ros1Graph) -> None:
    with (
        listening(graph.uri, "/two/image") as (backend, inbox),
        graph.publisher("left_eye", {"/two/image": VGA}) as left,
        graph.publisher("right_eye", {"/two/image": VGA}) as right,
    ):
        for eye in (left, right):
            eye.wait_for_subscribers()
        for eye in (left, right):
            eye.begin(40, hz=60)
        sent = [eye.published()["/two/image"] for eye in (left, right)]
        arrivals = taken(inbox, 80)
        received = stamps(arrivals, "/two/image")
        notes = backend.notes()
    pictures = [bytes(a.payload[-480 * 640 * 3 :]) for a in arrivals]
    # A picture of which a part is another's has bytes of two values.
    assert all(picture == picture[:1] * len(picture) for picture in pictures)
    for stamps_of_one in sent:
        numbers = [p[0] for p, s in zip(pictures, received, strict=True) if s in stamps_of_one]
        assert numbers == list(range(40))
    assert notes == ("/two/image is published by 2 nodes: /left_eye, /right_eye",)


def test_publishers_that_disagree_about_the_type_are_an_error_and_only_the_first_is_heard(
    graph: Ros1Graph,
) -> None:
    topic = "/odd/joints"
    with listening(graph.uri, topic) as (backend, inbox):
        assert backend.channel(topic) is None
        with graph.publisher("first", {topic: JOINTS}) as first:
            first.wait_for_subscribers()
            with graph.publisher("second", {topic: {"type": "std_msgs/String"}}) as second:
                eventually(backend.notes, "the disagreement is not noticed")
                with pytest.raises(DataError, match=f"publishers of {topic} disagree") as caught:
                    backend.channel(topic)
                for part in ("JointState", "/first", "std_msgs/msg/String", "/second"):
                    assert part in str(caught.value)
                assert "topic of its own" in caught.value.hint
                second.publish(5)
                sent = first.publish(5)[topic]
            eventually(lambda: still_fine(backend, topic), "it is still an error")
            arrivals = taken(inbox, 5)
            assert stamps(arrivals, topic) == sent


def still_fine(backend: Ros1Backend, topic: str) -> bool:
    with suppress(DataError):
        return backend.channel(topic) is not None
    return False


# --- what comes and goes ------------------------------------------------------------------------


@pytest.mark.parametrize("crash", [False, True], ids=["ends", "is-killed"])
def test_a_publisher_that_comes_back_is_heard_again(graph: Ros1Graph, crash: bool) -> None:
    topic = f"/again/{'killed' if crash else 'ended'}"
    with listening(graph.uri, topic) as (backend, inbox):
        sent = []
        for _ in range(2):
            with graph.publisher("restarted", {topic: IMAGE}) as publisher:
                publisher.wait_for_subscribers()
                sent += publisher.publish(20)[topic]
                arrived = len(sent)
                eventually(lambda n=arrived: inbox_holds(inbox, n), "not all arrive")
                if crash:
                    publisher.kill()
            eventually(lambda: f"{topic}: /restarted left" in str(backend.notes()), "no note")
        assert stamps(inbox.take(0), topic) == sent
        assert f"{topic}: /restarted is back" in backend.notes()


def inbox_holds(inbox: Inbox, count: int) -> bool:
    return len(inbox._waiting) >= count


def test_a_topic_that_ends_while_its_node_goes_on_is_heard_again_from_another(
    graph: Ros1Graph,
) -> None:
    with (
        listening(graph.uri, "/moves") as (backend, inbox),
        graph.publisher("mover", {"/moves": JOINTS, "/stays": JOINTS}) as publisher,
    ):
        eventually(lambda: backend.channel("/moves"), "it is not heard")
        publisher.unpublish("/moves")
        eventually(lambda: "/moves: /mover left" in backend.notes(), "no note")
        with graph.publisher("other", {"/moves": JOINTS}) as other:
            other.wait_for_subscribers()
            other.publish(3)
            assert len(taken(inbox, 3)) == 3


def test_a_master_that_dies_and_comes_back_costs_no_message_and_is_told(
    own_graph: Ros1Graph,
) -> None:
    with (
        listening(own_graph.uri, "/stays", "/comes") as (backend, inbox),
        own_graph.publisher("stayer", {"/stays": JOINTS}) as stayer,
    ):
        stayer.wait_for_subscribers()
        stayer.begin(300, hz=100)
        own_graph.kill_master()
        eventually(lambda: "master was lost" in str(backend.notes()), "no note")
        own_graph.start_master()
        eventually(lambda: "subscribed again" in str(backend.notes()), "no note")
        assert len(subscribers(own_graph.uri, "/stays")) == 1
        with own_graph.publisher("comer", {"/comes": JOINTS}) as comer:
            comer.wait_for_subscribers()
            came = comer.publish(5)["/comes"]
            sent = stayer.published()["/stays"]
            arrivals = taken(inbox, 305)
            assert stamps(arrivals, "/stays") == sent
            assert stamps(arrivals, "/comes") == came
    assert subscribers(own_graph.uri, "/stays") == []


# --- publishers that are none -------------------------------------------------------------------

Talk = Callable[[socket.socket], None]
HEADER = {"callerid": "/liar", "type": "std_msgs/String", "md5sum": "0" * 32}


def after_the_header(data: bytes) -> Talk:
    header = encode_header(HEADER | {"message_definition": "string data\n"})
    return lambda sock: sock.sendall(header + data)


@contextmanager
def liar(graph: Ros1Graph, topic: str, talk: Talk, *, offer: Any = None) -> Iterator[None]:
    """A publisher that the master believes in, and that answers nonsense."""
    data_server = socket.create_server(("127.0.0.1", 0))
    node_server = socket.create_server(("127.0.0.1", 0))
    port = data_server.getsockname()[1]
    uri = f"http://127.0.0.1:{node_server.getsockname()[1]}/"

    def serve(server: socket.socket, answer: Talk) -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, suppress(OSError):
                    connection.recv(4096)
                    answer(connection)

    def negotiate(connection: socket.socket) -> None:
        answer = rpc.Answer(1, "", offer or ["TCPROS", "127.0.0.1", port])
        connection.sendall(http.answer(rpc.encode_answer(answer)))

    threads = [
        threading.Thread(target=serve, args=(data_server, talk)),
        threading.Thread(target=serve, args=(node_server, negotiate)),
    ]
    for thread in threads:
        thread.start()
    rpc.ask(Sockets(), graph.uri, "registerPublisher", "/liar", topic, "std_msgs/String", uri)
    try:
        yield
    finally:
        rpc.ask(Sockets(), graph.uri, "unregisterPublisher", "/liar", topic, uri)
        for server, thread in zip((data_server, node_server), threads, strict=True):
            server.shutdown(socket.SHUT_RDWR)
            server.close()
            thread.join()


@pytest.mark.parametrize(
    ("talk", "complaint"),
    [
        pytest.param(
            lambda s: s.sendall(b"GET / HTTP/1.0\r\n\r\n" * 9), "its header has", id="http"
        ),
        pytest.param(
            lambda s: s.sendall(u32(2**31)), "its header has 2147483648", id="long-header"
        ),
        pytest.param(lambda s: s.sendall(u32(9) + u32(500) + bytes(5)), "a field", id="long-field"),
        pytest.param(lambda s: s.sendall(u32(500) + bytes(5)), "closes the", id="cut-header"),
        pytest.param(lambda s: None, "closes the connection", id="no-header"),
        pytest.param(lambda s: time.sleep(0.5), "timed out", id="silence"),
        pytest.param(after_the_header(b"\xff" * 900), "of 4294967295 bytes", id="long-message"),
        pytest.param(after_the_header(u32(100 * 2**20)), "ended 0 bytes into", id="empty-promise"),
        pytest.param(after_the_header(u32(90) + bytes(9)), "ended 13 bytes", id="cut-message"),
    ],
)
def test_a_publisher_that_sends_nonsense_is_noted_and_harms_nobody(
    graph: Ros1Graph,
    talk: Talk,
    complaint: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publisher, "HANDSHAKE_S", 0.3)
    monkeypatch.setattr(subscription, "FIRST_PAUSE_S", 0.05)
    case = request.node.callspec.id.replace("-", "_")
    bad, good = f"/liar/{case}", f"/honest/{case}"
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (
        liar(graph, bad, talk),
        listening(graph.uri, bad, good) as (backend, inbox),
        graph.publisher("honest", {good: JOINTS}) as honest,
    ):
        honest.wait_for_subscribers()
        eventually(lambda: complaint in str(backend.notes()), f"no note, only {backend.notes()}")
        sent = honest.publish(10)[good]
        assert stamps(taken(inbox, 10), good) == sent
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < 50 * 2**10


@pytest.mark.parametrize(
    "offer",
    [["UDPROS", "127.0.0.1", 1], ["TCPROS", "127.0.0.1", 70_000], [], ["TCPROS", "127.0.0.1", "1"]],
    ids=["other-protocol", "no-port", "nothing", "port-is-text"],
)
def test_a_publisher_that_offers_no_tcpros_is_noted(graph: Ros1Graph, offer: list[Any]) -> None:
    with (
        liar(graph, "/liar/offer", lambda s: None, offer=offer or [1]),
        listening(graph.uri, "/liar/offer") as (backend, _),
    ):
        eventually(lambda: "offers no TCPROS" in str(backend.notes()), "no note")


# --- the master ---------------------------------------------------------------------------------


@contextmanager
def false_master(answer: Talk) -> Iterator[str]:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, suppress(OSError):
                    connection.recv(4096)
                    answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def says(value: object) -> Talk:
    document = xmlrpc.client.dumps((value,), methodresponse=True).encode()
    return lambda sock: sock.sendall(http.answer(document))


def drip(sock: socket.socket) -> None:
    for _ in range(100):
        sock.sendall(b"H")
        time.sleep(0.05)


def flood(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    for _ in range(20):
        sock.sendall(bytes(2**20))


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        pytest.param(drip, "timed out|in time", id="drips"),
        pytest.param(flood, "it sends more than", id="floods"),
        pytest.param(lambda s: None, "closes the connection", id="hangs-up"),
        pytest.param(lambda s: s.sendall(b"SSH-2.0-x\r\n\r\n"), "XML-RPC", id="is-ssh"),
        pytest.param(says([0, "not today", 0]), "not today", id="refuses"),
        pytest.param(says([1, "", 7]), "list of", id="answers-a-number"),
        pytest.param(says([1, "", [7]]), "list of", id="answers-a-list-of-numbers"),
        pytest.param(says(7), "something other", id="is-no-ros"),
    ],
)
def test_a_master_that_answers_nonsense_is_a_data_error(
    answer: Talk, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc, "TIMEOUT_S", 0.5)
    with false_master(answer) as uri:
        with pytest.raises(DataError, match=f"ROS master at {uri} does not answer:.*{complaint}"):
            Ros1Backend(uri).topics()
        backend = Ros1Backend(uri)
        with pytest.raises(DataError, match=complaint):
            backend.subscribe(["/joints"], Inbox())
        backend.close()


def test_a_master_that_is_not_there_is_a_data_error_that_says_how_to_start_one() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(DataError, match=f"{uri} does not answer: .*Connection refused") as e:
            Ros1Backend(uri).topics()
    assert "roscore" in e.value.hint


def test_the_master_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_MASTER_URI", "http://robot:11311")
    assert Ros1Backend().name == "ros1 http://robot:11311"
    monkeypatch.delenv("ROS_MASTER_URI")
    assert Ros1Backend().name == "ros1 http://localhost:11311"
    with pytest.raises(InputError, match="'robot' is no http://host:port/"):
        Ros1Backend("robot")


# --- our own node -------------------------------------------------------------------------------


@contextmanager
def our_node(uri: str, topic: str) -> Iterator[xmlrpc.client.ServerProxy]:
    """The node that subscribes to `topic`, as other nodes see it."""
    (name,) = subscribers(uri, topic)
    with xmlrpc.client.ServerProxy(rpc.ask(Sockets(), uri, "lookupNode", "/test", name)) as node:
        yield node


def test_the_node_answers_as_ros_tools_ask(graph: Ros1Graph) -> None:
    with (
        graph.publisher("asked", {"/asked/joints": JOINTS}) as publisher,
        listening(graph.uri, "/asked/joints") as (backend, _),
        our_node(graph.uri, "/asked/joints") as us,
    ):
        publisher.wait_for_subscribers()
        eventually(lambda: backend.channel("/asked/joints"), "it is not heard")
        assert us.getPid("/test") == [1, "", os.getpid()]
        assert us.getMasterUri("/test") == [1, "", graph.uri]
        assert us.getSubscriptions("/test") == [1, "", [["/asked/joints", "*"]]]
        (link,) = us.getBusInfo("/test")[2]
        assert link[2:] == ["i", "TCPROS", "/asked/joints", True]
        assert us.requestTopic("/test", "/asked/joints", [["TCPROS"]])[0] == -1
        assert us.shutdown("/test", "bye") == [-1, "stop it where it was started", 0]
        with pytest.raises(xmlrpc.client.Fault, match="no method 'system"):
            us.system.listMethods()
        # Nonsense, and an update about somebody else's topic, change nothing.
        assert us.publisherUpdate() == [1, "", 0]
        assert us.publisherUpdate("/test", "/other", ["http://127.0.0.1:1/"]) == [1, "", 0]
        publisher.publish(1)


def test_an_update_that_the_master_did_not_send_makes_us_connect_to_nobody(
    graph: Ros1Graph,
) -> None:
    calls = []
    with (
        false_master(lambda s: calls.append(s)) as stranger,
        listening(graph.uri, "/asked/update") as (backend, _),
        our_node(graph.uri, "/asked/update") as us,
    ):
        us.publisherUpdate("/master", "/asked/update", [stranger])
        with graph.publisher("real", {"/asked/update": JOINTS}) as real:
            real.wait_for_subscribers()
        assert backend.channel("/asked/update") is not None
    assert calls == []


@pytest.mark.parametrize(
    ("environment", "bind", "name"),
    [
        ({}, "127.0.0.1", "127.0.0.1"),
        ({"ROS_IP": "192.168.1.5"}, "192.168.1.5", "192.168.1.5"),
        ({"ROS_IP": "fe80::1"}, "fe80::1", "fe80::1"),
        ({"ROS_HOSTNAME": "localhost"}, "127.0.0.1", "localhost"),
        ({"ROS_HOSTNAME": "127.0.1.1"}, "127.0.0.1", "127.0.1.1"),
        ({"ROS_HOSTNAME": "pc.lab"}, "", "pc.lab"),
        ({"ROS_HOSTNAME": "pc.lab", "ROS_IP": "192.168.1.5"}, "", "pc.lab"),
        ({"ROS_HOSTNAME": "", "ROS_IP": ""}, "127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_node_listens_on_the_loopback_interface_unless_it_is_told_otherwise(
    environment: dict[str, str], bind: str, name: str
) -> None:
    assert node.place(environment) == node.Place(bind, name)


def test_an_address_that_is_not_ours_is_an_error_that_names_it(
    graph: Ros1Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_IP", "192.0.2.1")  # of a network that exists in documents only
    with pytest.raises(DataError, match=r"cannot listen on 192\.0\.2\.1: ") as caught:
        Ros1Backend(graph.uri).subscribe(["/joints"], Inbox())
    assert "ROS_IP" in caught.value.hint
    monkeypatch.setenv("ROS_IP", "robot")
    with pytest.raises(InputError, match="ROS_IP is 'robot'"):
        Ros1Backend(graph.uri)


# --- the end ------------------------------------------------------------------------------------


def test_closing_unregisters_and_ends_every_thread_also_in_the_middle_of_a_picture(
    graph: Ros1Graph,
) -> None:
    with graph.publisher("busy", {"/busy/image": VGA}) as publisher:
        with listening(graph.uri, "/busy/image") as (backend, inbox):
            publisher.wait_for_subscribers()
            publisher.begin(100, hz=200)
            taken_some = inbox.take(5)
            assert taken_some
            began_s = time.monotonic()
            backend.close()
            assert time.monotonic() - began_s < 5
            assert subscribers(graph.uri, "/busy/image") == []
            backend.close()
        publisher.published()


KILLED = """
import sys, time
from act_data.sources.live import Inbox
from act_data.sources.live.ros1 import Ros1Backend
backend, inbox = Ros1Backend(sys.argv[1]), Inbox()
backend.subscribe(["/survives"], inbox)
print(len(inbox.take(30)), flush=True)
time.sleep(60)
"""


def test_a_subscriber_that_is_killed_leaves_publishers_and_master_in_order(
    graph: Ros1Graph,
) -> None:
    with graph.publisher("survivor", {"/survives": JOINTS}) as publisher:
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, graph.uri], stdout=subprocess.PIPE, cwd=ROOT
        ) as victim:
            publisher.wait_for_subscribers()
            publisher.publish(1)
            assert victim.stdout is not None
            assert victim.stdout.readline().strip() == b"1"
            victim.send_signal(signal.SIGKILL)
        eventually(lambda: publisher.subscribers() == {"/survives": 0}, "it is not seen to be dead")
        with listening(graph.uri, "/survives") as (_, inbox):
            publisher.wait_for_subscribers()
            sent = publisher.publish(5)["/survives"]
            assert stamps(taken(inbox, 5), "/survives") == sent
