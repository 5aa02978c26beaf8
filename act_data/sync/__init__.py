"""Soft synchronisation: samples of many clocks in, frames on one grid out.

sync = Synchronizer(streams, fps=30)
for message in source:
    for frame in sync.push(name, message.recv_ns, message.stamp_ns, message):
        ...
frames = sync.finish()
account = sync.report()
"""

from act_data.sync.synchronizer import Synchronizer
from act_data.sync.track import SyncStream

__all__ = ["SyncStream", "Synchronizer"]
