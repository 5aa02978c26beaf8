"""Live topics as raw messages: one inbox, and a backend per way of hearing a robot."""

from act_data.sources.live.backend import LiveBackend
from act_data.sources.live.backends import BACKENDS, open_backend
from act_data.sources.live.follow import DiscardedError, FollowedSpool
from act_data.sources.live.inbox import Arrival, Inbox
from act_data.sources.live.memory import MemoryBackend
from act_data.sources.live.replay import ReplayBackend
from act_data.sources.live.source import LiveSource
from act_data.sources.live.spool import Spool

__all__ = [
    "BACKENDS",
    "Arrival",
    "DiscardedError",
    "FollowedSpool",
    "Inbox",
    "LiveBackend",
    "LiveSource",
    "MemoryBackend",
    "ReplayBackend",
    "Spool",
    "open_backend",
]
