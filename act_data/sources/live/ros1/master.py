"""The ROS master as a subscriber needs it: https://wiki.ros.org/ROS/Master_API"""

from __future__ import annotations

from typing import Any

from act_data.sources.live.ros1 import rpc
from act_data.sources.live.ros1.sockets import Sockets

MAX_PUBLISHERS = 64  # of one topic; each gets a thread


class Master:
    """Calls to one master in the name of one node.

    Every method raises OSError when the master cannot be reached in time and ValueError when it
    refuses or answers something else.

    Args:
        caller: Name of the node.
        node_uri: Where the node's own server listens.
    """

    def __init__(self, sockets: Sockets, uri: str, *, caller: str, node_uri: str = "") -> None:
        self._sockets = sockets
        self._uri = uri
        self._caller = caller
        self._node_uri = node_uri

    def published(self) -> dict[str, str]:
        """Type by topic of all that somebody publishes, in ROS 1's spelling; "*" if not known."""
        pairs = self._ask("getPublishedTopics", "")
        match pairs:
            case [*_] if all(_is_pair(pair) for pair in pairs):
                return dict(pairs)
        raise ValueError("its list of topics is no list of pairs")

    def register(self, topic: str) -> tuple[str, ...]:
        """Subscribe the node to `topic`, also when it is already; the URIs of the publishers."""
        uris = self._ask("registerSubscriber", topic, "*", self._node_uri)
        match uris:
            case [*_] if all(isinstance(uri, str) for uri in uris):
                return tuple(dict.fromkeys(uris[:MAX_PUBLISHERS]))
        raise ValueError(f"its list of the publishers of {topic} is no list of addresses")

    def unregister(self, topic: str) -> None:
        """End the subscription of the node to `topic`."""
        self._ask("unregisterSubscriber", topic, self._node_uri)

    def knows_us(self) -> bool:
        """Whether the node is registered; a master that was restarted has forgotten it."""
        answer = rpc.call(self._sockets, self._uri, "lookupNode", self._caller, self._caller)
        return answer.code == rpc.SUCCESS

    def _ask(self, method: str, *parameters: object) -> Any:
        return rpc.ask(self._sockets, self._uri, method, self._caller, *parameters)


def _is_pair(pair: object) -> bool:
    match pair:
        case [str(), str()]:
            return True
    return False
