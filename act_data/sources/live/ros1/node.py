"""The server that every ROS node has: https://wiki.ros.org/ROS/Slave_API

It listens on the loopback interface unless ROS_IP or ROS_HOSTNAME say otherwise. Whatever is sent
to it, all that a caller can bring about is that the master is asked for its publishers again.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any

from act_data.errors import InputError
from act_data.sources.live.ros1 import http, rpc
from act_data.sources.live.ros1.sockets import Sockets

CALL_TIMEOUT_S = 2.0  # one caller at a time
_ACCEPT_S = 1.0  # where cutting a listening socket does not wake its thread

# Gets the parameters as they were sent, unchecked.
Method = Callable[[tuple[Any, ...]], rpc.Answer]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node's server listens, and the name under which others find it.

    Attributes:
        bind: Address to listen on; "" is every interface.
        name: What is told to the master.
    """

    bind: str
    name: str


def place(environment: Mapping[str, str]) -> Place:
    """Where to listen, by ROS_HOSTNAME and ROS_IP; the loopback interface without them.

    ROS_IP is listened on. A host name may stand for other addresses here than on other machines
    (Debian's is 127.0.1.1 at home), so for ROS_HOSTNAME it is every interface, as in ROS itself.

    Raises:
        InputError: ROS_IP is no address.
    """
    if hostname := environment.get("ROS_HOSTNAME"):
        return Place("127.0.0.1" if is_loopback(hostname) else "", hostname)
    if ip := environment.get("ROS_IP"):
        try:
            ipaddress.ip_address(ip)
        except ValueError as e:
            raise InputError(
                f"ROS_IP is {ip!r}, which is no IP address",
                hint="Set it to an address of this machine, or set ROS_HOSTNAME to its name.",
            ) from e
        return Place(ip, ip)
    return Place("127.0.0.1", "127.0.0.1")


def is_loopback(host: str) -> bool:
    """Whether `host` can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Node:
    """A thread that answers other nodes, until its socket is cut.

    Args:
        methods: By name in the API.
        where: Where to listen.

    Raises:
        OSError: The address is not one of this machine.
    """

    def __init__(self, sockets: Sockets, methods: Mapping[str, Method], where: Place) -> None:
        self._sockets = sockets
        self._methods = methods
        family = socket.AF_INET6 if ":" in where.bind else socket.AF_INET
        self._listening = socket.create_server((where.bind, 0), family=family)
        name = f"[{where.name}]" if ":" in where.name else where.name
        self.uri = f"http://{name}:{self._listening.getsockname()[1]}/"
        self.thread = Thread(target=self._serve, name=f"ros1 node {self.uri}", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        with suppress(OSError), self._sockets.held(self._listening) as listening:
            listening.settimeout(_ACCEPT_S)
            while True:
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    if self._sockets.are_cut:
                        return
                    continue
                with suppress(OSError, ValueError), self._sockets.held(connection) as caller:
                    document = http.receive(caller, time.monotonic() + CALL_TIMEOUT_S)
                    caller.sendall(http.answer(self._answer(document)))

    def _answer(self, document: bytes) -> bytes:
        name, parameters = rpc.decode_call(document)
        if name not in self._methods:
            return rpc.encode_fault(f"there is no method {name[:80]!r}")
        return rpc.encode_answer(self._methods[name](parameters))
