"""Commands on their way to a robot: messages of its dialect, published on ROS 1 or ROS 2."""

from act_data.commands.messages import ENCODINGS, Encoder, Encoding
from act_data.commands.publisher import Publisher, open_publisher

__all__ = ["ENCODINGS", "Encoder", "Encoding", "Publisher", "open_publisher"]
