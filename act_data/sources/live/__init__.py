"""Live topics as raw messages: one inbox, and a backend per way of hearing a robot."""

from act_data.sources.live.backend import LiveBackend
from act_data.sources.live.inbox import Arrival, Inbox

__all__ = ["Arrival", "Inbox", "LiveBackend"]
