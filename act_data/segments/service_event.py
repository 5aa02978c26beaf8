"""Calls of a ROS 2 service, from the events that service introspection publishes.

A recorded event is `<service>_Event` on `<service>/_service_event`: a ServiceEventInfo, then the
request and the response, each as a sequence of none or one. Recorders store definitions of it that
no parser reads, or none, so what is needed is read from its bytes (service_msgs/ServiceEventInfo:
event_type, stamp, client_gid, sequence_number).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

SUFFIX = "/_service_event"

REQUESTS = (0, 1)  # REQUEST_SENT by the client, REQUEST_RECEIVED by the server
_ORDER = {0: ">", 1: "<"}
# Behind the four bytes of encapsulation, aligned as CDR does: uint8, time, char[16], int64, then
# the length of the sequence of requests.
_INFO = "Bxxxii16s4xqI"


class ServiceEvent(NamedTuple):
    """One event of a call.

    Attributes:
        kind: 0 request sent, 1 request received, 2 response sent, 3 response received.
        call: Who called, and its number there: the same for all events of one call.
        request: The bytes from the request on; None where its content was not recorded.
    """

    kind: int
    call: tuple[bytes, int]
    request: bytes | None


def service_event(payload: bytes | memoryview) -> ServiceEvent:
    """The event in `payload`.

    Raises:
        ValueError: It is too short, or not plain CDR.
    """
    if len(payload) < 4 or payload[0] != 0 or payload[1] not in _ORDER:
        raise ValueError(f"it begins with {bytes(payload[:4])!r}, which is not plain CDR")
    info = struct.Struct(_ORDER[payload[1]] + _INFO)
    try:
        kind, _, _, client, number, requests = info.unpack_from(payload, 4)
    except struct.error as e:
        raise ValueError(f"it has {len(payload)} bytes, too few for a service event") from e
    request = bytes(payload[4 + info.size :]) if requests else None
    return ServiceEvent(kind, (client, number), request)
