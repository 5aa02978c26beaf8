"""XML-RPC as ROS 1 speaks it: every answer is `[code, message, value]`, code 1 is success.

Only the codec is the standard library's. Documents are parsed without entities, so that none can
grow while it is read, and transfers are bounded (http.py).
"""

from __future__ import annotations

import time
import xmlrpc.client
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from xml.parsers import expat

from act_data.sources.live.ros1 import http
from act_data.sources.live.ros1.sockets import Sockets
from act_data.sources.storage import DAMAGE

SUCCESS = 1
TIMEOUT_S = 3.0

_UNREADABLE: tuple[type[Exception], ...] = (
    expat.ExpatError,
    xmlrpc.client.Error,
    AttributeError,
    *DAMAGE,
)


class Answer(NamedTuple):
    """What a ROS node or the master answers."""

    code: int
    message: str
    value: Any


class Address(NamedTuple):
    """Where an XML-RPC server listens."""

    host: str
    port: int
    path: str


def address(uri: str) -> Address:
    """The parts of `http://host:port/path`.

    Raises:
        ValueError: It is no such URI.
    """
    parts = urlsplit(uri)
    if parts.scheme != "http" or not parts.hostname or not parts.port:
        raise ValueError(f"{uri[:200]!r} is no http://host:port/")
    if not (uri.isascii() and uri.isprintable()) or " " in uri:
        raise ValueError(f"{uri[:200]!r} has characters that no address has")
    return Address(parts.hostname, parts.port, parts.path or "/")


def call(sockets: Sockets, uri: str, method: str, *parameters: object) -> Answer:
    """Call `method` of the server at `uri`, whatever the code of its answer.

    Raises:
        OSError: It cannot be reached, or does not answer within `TIMEOUT_S`.
        ValueError: What it answers is no answer of ROS.
    """
    host, port, path = address(uri)
    deadline_s = time.monotonic() + TIMEOUT_S
    with sockets.connected(host, port, TIMEOUT_S) as sock:
        sock.sendall(http.request(f"{host}:{port}", path, encode_call(method, parameters)))
        return decode_answer(http.receive(sock, deadline_s))


def ask(sockets: Sockets, uri: str, method: str, *parameters: object) -> Any:
    """The value that `method` gives back.

    Raises:
        OSError: As `call`.
        ValueError: As `call`, or the answer says that it failed.
    """
    answer = call(sockets, uri, method, *parameters)
    if answer.code != SUCCESS:
        raise ValueError(f"it refuses {method}: {answer.message[:200]}")
    return answer.value


def encode_call(method: str, parameters: Sequence[object]) -> bytes:
    """The document of a call."""
    return xmlrpc.client.dumps(tuple(parameters), method).encode()  # type: ignore[arg-type]


def encode_answer(answer: Answer) -> bytes:
    """The document of an answer."""
    return xmlrpc.client.dumps((list(answer),), methodresponse=True).encode()


def encode_fault(message: str) -> bytes:
    """The document that says that there is no such method."""
    return xmlrpc.client.dumps(xmlrpc.client.Fault(1, message), methodresponse=True).encode()


def decode_call(document: bytes) -> tuple[str, tuple[Any, ...]]:
    """Method and parameters.

    Raises:
        ValueError: The document is no call.
    """
    values, method = _decode(document)
    if not method:
        raise ValueError("it calls no method")
    return method, values


def decode_answer(document: bytes) -> Answer:
    """The answer in a document.

    Raises:
        ValueError: There is none, or the server reports a fault.
    """
    values, _ = _decode(document)
    answer = values[0] if len(values) == 1 else None
    match answer:
        case [int(code), str(message), value]:
            return Answer(code, message, value)
    raise ValueError("it answers something other than [code, message, value]")


def _decode(document: bytes) -> tuple[tuple[Any, ...], str | None]:
    unmarshaller = xmlrpc.client.Unmarshaller(use_builtin_types=True)
    unmarshaller.xml("", "")  # text is str already
    parser = expat.ParserCreate()
    parser.StartElementHandler = unmarshaller.start
    parser.EndElementHandler = unmarshaller.end
    parser.CharacterDataHandler = unmarshaller.data
    parser.StartDoctypeDeclHandler = _refuse_declarations
    try:
        parser.Parse(document, True)
        return tuple(unmarshaller.close()), unmarshaller.getmethodname()
    except xmlrpc.client.Fault as e:
        raise ValueError(f"it reports a fault: {str(e.faultString)[:200]}") from e
    except _UNREADABLE as e:
        detail = " ".join(str(e).split())[:200] or type(e).__name__
        raise ValueError(f"it sends no XML-RPC: {detail}") from e


def _refuse_declarations(*_: object) -> None:
    raise ValueError("a document type declaration has no place in XML-RPC")
