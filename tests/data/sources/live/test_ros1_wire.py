"""What ROS 1 says on the wire, read from bytes: whole, cut anywhere, and made of nonsense."""

from __future__ import annotations

import xmlrpc.client
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act_data.sources.bounds import MAX_MESSAGE_BYTES
from act_data.sources.live.ros1 import http, rpc
from act_data.sources.live.ros1.header import decode_header, encode_header, publisher_header
from act_data.sources.live.ros1.stream import READ_AHEAD_BYTES, Receive, messages
from tests.bags import u32

JOINT_STATE = {
    "callerid": "/arm",
    "type": "sensor_msgs/JointState",
    "md5sum": "3066dcd76a6cfaef579bd0f34173e9fd",
}
NAME = st.text(st.characters(exclude_characters="=", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name == name.strip()
)
VALUE = st.text(st.characters(exclude_categories=["Cs"]))


# --- the header of a connection -----------------------------------------------------------------


@given(st.dictionaries(NAME, VALUE))
def test_a_header_is_read_as_it_was_written(fields: dict[str, str]) -> None:
    data = encode_header(fields)
    assert data[:4] == u32(len(data) - 4)
    assert decode_header(data[4:]) == fields


def test_a_header_of_the_ros_wiki_is_read() -> None:
    # https://wiki.ros.org/ROS/Connection%20Header, a publisher of std_msgs/String
    body = bytes.fromhex(
        "200000006d6573736167655f646566696e6974696f6e3d737472696e6720646174610a0a"
        "2500000063616c6c657269643d2f726f73746f7069635f343736375f31333136393132373431353537"
        "0a0000006c61746368696e673d31"
        "270000006d643573756d3d3939326365386131363837636563386338626438383365633733636134316431"
        "0e000000746f7069633d2f63686174746572"
        "14000000747970653d7374645f6d7367732f537472696e67"
    )
    assert len(body) == 0xB0
    header = publisher_header(decode_header(body))
    assert header.caller == "/rostopic_4767_1316912741557"
    assert header.type == "std_msgs/msg/String"
    assert header.md5sum == "992ce8a1687cec8c8bd883ec73ca41d1"
    assert header.definition.text == "string data\n\n"


@given(st.binary(max_size=200))
def test_bytes_that_are_no_header_are_a_value_error(data: bytes) -> None:
    try:
        fields = decode_header(data)
    except ValueError:
        return
    assert all(isinstance(value, str) for value in fields.values())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        pytest.param({"error": "no such topic"}, "refuses the connection: no such", id="refused"),
        pytest.param({"type": "*"}, "names no message type", id="any-type"),
        pytest.param({"type": ""}, "names no message type", id="no-type"),
        pytest.param({"type": "a/b\n/c"}, "names no message type", id="odd-type"),
        pytest.param({"md5sum": "*"}, "names no message type", id="any-md5sum"),
        pytest.param({"md5sum": "0" * 32}, "does not say how", id="own-without-definition"),
    ],
)
def test_a_publisher_that_does_not_say_what_it_sends_is_refused(
    change: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        publisher_header(JOINT_STATE | change)


def test_a_definition_that_is_left_out_is_that_of_noetic_when_the_fingerprint_says_so() -> None:
    text = publisher_header(JOINT_STATE).definition.text
    assert "float64[] position" in text
    assert "MSG: std_msgs/Header\nuint32 seq\n" in text


def test_an_empty_message_has_an_empty_definition() -> None:
    empty = {"type": "std_msgs/Empty", "md5sum": "d41d8cd98f00b204e9800998ecf8427e"}
    assert publisher_header(empty | {"message_definition": ""}).definition.text == ""


# --- the messages -------------------------------------------------------------------------------


def in_pieces(data: bytes, pieces: list[int]) -> Receive:
    """A receive that gives `data` in pieces of the given sizes, again and again."""
    position, turn = 0, 0

    def receive(part: memoryview, _: int) -> int:
        nonlocal position, turn
        assert len(part) > 0
        size = min(len(part), pieces[turn % len(pieces)], len(data) - position)
        part[:size] = data[position : position + size]
        position, turn = position + size, turn + 1
        return size

    return receive


SIZES = st.one_of(
    st.integers(0, 40),
    st.integers(READ_AHEAD_BYTES - 8, READ_AHEAD_BYTES + 8),
    st.integers(0, 3 * READ_AHEAD_BYTES),
)


@given(
    sizes=st.lists(SIZES, max_size=8),
    pieces=st.lists(st.integers(1, 2 * READ_AHEAD_BYTES), min_size=1, max_size=5),
)
def test_messages_are_whole_however_the_bytes_arrive(sizes: list[int], pieces: list[int]) -> None:
    sent = [bytes([n % 256]) * size for n, size in enumerate(sizes)]
    data = b"".join(u32(len(message)) + message for message in sent)
    received = list(messages(in_pieces(data, pieces)))
    assert [bytes(payload) for payload in received] == sent
    # Each has memory of its own that nobody can write to.
    assert all(memoryview(payload).readonly for payload in received)


@given(size=st.sampled_from([20, READ_AHEAD_BYTES]), data=st.data())
def test_a_connection_that_ends_within_a_message_gives_the_whole_ones_and_says_so(
    size: int, data: st.DataObject
) -> None:
    message = u32(size) + bytes(size)
    cut = data.draw(st.integers(1, len(message) - 1))
    stream = messages(in_pieces(2 * message + message[:cut], [4096]))
    assert [len(next(stream)), len(next(stream))] == [size, size]
    with pytest.raises(ConnectionError, match="bytes into a message"):
        next(stream)


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES + 1, 2**32 - 1])
def test_a_message_that_is_too_long_is_refused_when_it_is_announced(size: int) -> None:
    with pytest.raises(ValueError, match=f"announces a message of {size} bytes"):
        next(messages(in_pieces(u32(size) + bytes(100), [50])))


# --- XML-RPC ------------------------------------------------------------------------------------


def test_calls_and_answers_are_those_of_the_standard_library() -> None:
    call = rpc.encode_call("requestTopic", ("/us", "/joints", [["TCPROS"]]))
    assert xmlrpc.client.loads(call) == (("/us", "/joints", [["TCPROS"]]), "requestTopic")
    assert rpc.decode_call(call) == ("requestTopic", ("/us", "/joints", [["TCPROS"]]))
    answer = rpc.Answer(1, "ready on ä:1", ["TCPROS", "ä", 1])
    assert rpc.decode_answer(rpc.encode_answer(answer)) == answer


VALID = [
    rpc.encode_call("publisherUpdate", ("/master", "/joints", ["http://a:1/"])),
    rpc.encode_answer(rpc.Answer(1, "current topics", [["/joints", "sensor_msgs/JointState"]])),
    rpc.encode_fault("no"),
]


@pytest.mark.parametrize("decode", [rpc.decode_call, rpc.decode_answer])
@given(document=st.sampled_from(VALID), data=st.data())
def test_a_document_with_a_few_bytes_changed_is_read_or_a_value_error(
    decode: Callable[[bytes], object], document: bytes, data: st.DataObject
) -> None:
    changed = bytearray(document)
    for _ in range(data.draw(st.integers(0, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(changed)))
    with suppress(ValueError):
        decode(bytes(changed[:cut]))


VALUE_XML = "<methodResponse><params><param><value>{}</value></param></params></methodResponse>"


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(VALUE_XML.format("<int>1</int>"), id="no-triple"),
        pytest.param(VALUE_XML.format("<int>" + "9" * 5000 + "</int>"), id="endless-int"),
        pytest.param(VALUE_XML.format("<dateTime.iso8601>x</dateTime.iso8601>"), id="no-date"),
        pytest.param(VALUE_XML.format("<bigdecimal>x</bigdecimal>"), id="no-decimal"),
        pytest.param(VALUE_XML.format("<base64>=</base64>"), id="no-base64"),
        pytest.param(VALUE_XML.format("<struct><value/></struct>"), id="odd-struct"),
        pytest.param(VALUE_XML.format("<array>" * 10_000 + "</array>" * 10_000), id="deep"),
        pytest.param("<methodResponse><fault/></methodResponse>", id="empty-fault"),
        pytest.param("", id="nothing"),
    ],
)
def test_documents_that_answer_nothing_are_a_value_error(document: str) -> None:
    with pytest.raises(ValueError, match=r"it sends no XML-RPC|answers something other"):
        rpc.decode_answer(document.encode())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_cannot_grow_while_it_is_read(encoding: str) -> None:
    bomb = '<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    document = (bomb + VALUE_XML.format("<string>&b;</string>")).encode(encoding)
    with pytest.raises(ValueError, match="document type declaration"):
        rpc.decode_answer(document)


@pytest.mark.parametrize(
    ("uri", "valid"),
    [
        ("http://127.0.0.1:11311", True),
        ("http://robot:11311/RPC2", True),
        ("http://[::1]:11311/", True),
        ("https://robot:11311/", False),
        ("http://robot/", False),
        ("http://robot:99999/", False),
        ("robot:11311", False),
        ("http://robot:11311/\r\nHost: x", False),
        ("", False),
    ],
)
def test_an_address_is_host_and_port(uri: str, valid: bool) -> None:
    if valid:
        assert rpc.address(uri).host in ("127.0.0.1", "robot", "::1")
    else:
        with pytest.raises(ValueError, match=r"http://host:port|characters|[Pp]ort"):
            rpc.address(uri)


# --- HTTP ---------------------------------------------------------------------------------------


@given(body=st.binary(max_size=100), cut=st.integers(0, 400))
def test_an_http_message_is_read_once_it_is_all_there(body: bytes, cut: int) -> None:
    for message in (http.request("robot:1", "/RPC2", body), http.answer(body)):
        assert http.message_body(message) == body
        if cut < len(message):
            assert http.message_body(message[:cut]) is None


@given(st.binary(max_size=300))
def test_bytes_that_are_no_http_are_waited_for_or_a_value_error(data: bytes) -> None:
    try:
        body = http.message_body(data)
    except ValueError:
        return
    assert body is None or body in data


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        pytest.param(b"HTTP/1.1 404 Not Found\r\n\r\n", "it answers 'HTTP/1.1 404", id="404"),
        pytest.param(b"HTTP/1.1\r\n\r\n", "it answers 'HTTP/1.1'", id="no-code"),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "announces", id="too-long"
        ),
        pytest.param(bytes(http.MAX_HEAD_BYTES + 1), "that are no HTTP", id="endless-head"),
    ],
)
def test_http_that_is_no_answer_is_refused(message: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        http.message_body(message)
