"""A world with its sensors running: time passes, commands are taken, messages come out."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from act_data.sources.outgoing import TIME_REFERENCE, Outgoing
from act_data.sources.storage import Channel, Encoding
from act_data.types import NS_PER_S, RawMessage
from act_model.sim.camera import Cameras, check_cameras
from act_model.sim.sensors import Pictures, Timing, beats, sensors_of
from act_model.sim.tasks import Task
from act_model.sim.world import RATE_HZ, STEP_NS, World

TRUTH_TOPIC = "/sim/time_reference"
TICK_NS = round(NS_PER_S / RATE_HZ)
EPOCH_NS = 1_700_000_000 * NS_PER_S  # what the room's clock says when an episode begins
_APART_NS = 3600 * NS_PER_S  # and how much later the episode of the next seed does
_SETTLE_STEPS = 250  # until what was put on the table lies still

OnTick = Callable[[World], None]


class Simulation:
    """One world, its sensors, and what they have sent that has not arrived yet.

    For each message there is another on `TRUTH_TOPIC` that says when in simulated time it was
    sampled, whatever its own stamp says.

    Attributes:
        world: Command it at any time.
        channels: Of all topics, with ids from 0.
        start_ns: The room's clock at time 0 of the world's episode.
    """

    def __init__(
        self, task: Task, *, pictures: Pictures, timing: Timing, encoding: Encoding = "cdr"
    ) -> None:
        """Load the scene; `begin` an episode before anything else.

        Raises:
            InputError: An unknown camera, or nothing that can draw.
        """
        check_cameras(pictures.cameras)
        self.world = World(task)
        self.start_ns = EPOCH_NS
        self._timing = timing
        self._out = Outgoing(encoding)
        drawn = pictures.cameras
        self._cameras = Cameras(self.world, pictures.height, pictures.width) if drawn else None
        self._sensors = sensors_of(self.world, self._out, pictures, self._cameras)
        self.channels: tuple[Channel, ...] = tuple(
            self._out.channel(number, topic, type_)
            for number, (topic, type_) in enumerate(
                [*((s.topic, s.type) for s in self._sensors), (TRUTH_TOPIC, TIME_REFERENCE)]
            )
        )
        self._beats = beats(self._sensors, timing, task, 0)
        self._settled_ns = 0
        self._truths = 0
        self._sent: list[tuple[int, int, RawMessage]] = []
        self._number = self._next_tick_ns = 0

    def begin(self, seed: int, start_ns: int | None = None) -> None:
        """Begin the episode of `seed`: arms at rest, objects lying still, sensors off until now.

        Args:
            start_ns: What the room's clock says now; by default an hour later with every seed.
        """
        world = self.world
        world.reset(seed)
        world.advance(_SETTLE_STEPS)
        self._settled_ns = world.now_ns
        self.start_ns = EPOCH_NS + seed * _APART_NS if start_ns is None else start_ns
        self._beats = beats(self._sensors, self._timing, world.task, seed)
        self._truths = self._number = self._next_tick_ns = 0
        self._sent = []

    @property
    def now_ns(self) -> int:
        """Simulated time since `begin`."""
        return self.world.now_ns - self._settled_ns

    def run(self, until_ns: int, on_tick: OnTick | None = None) -> list[RawMessage]:
        """Let time pass; what arrived until then, in order of arrival.

        Args:
            until_ns: On the clock of `now_ns`, at or after it. Sensors that are due at this very
                moment have looked.
            on_tick: Called at every multiple of the tick before any sensor looks.
        """
        while True:
            now_ns = self.now_ns
            if now_ns >= self._next_tick_ns:
                self._next_tick_ns += TICK_NS
                if on_tick is not None:
                    on_tick(self.world)
            self._look(now_ns)
            if now_ns >= until_ns:
                return self._arrived(now_ns)
            ahead_ns = min(self._next_tick_ns, until_ns, *(beat.due_ns for beat in self._beats))
            self.world.advance(max(1, -(-(ahead_ns - now_ns) // STEP_NS)))

    def in_flight(self) -> list[RawMessage]:
        """What was sampled and has not arrived yet, in the order in which it will."""
        waiting, self._sent = sorted(self._sent, key=lambda item: item[:2]), []
        return [raw for _, _, raw in waiting]

    def close(self) -> None:
        """Let go of what draws."""
        if self._cameras is not None:
            self._cameras.close()

    def _look(self, now_ns: int) -> None:
        """Take the samples that are due, and send what is not lost."""
        for number, (sensor, beat) in enumerate(zip(self._sensors, self._beats, strict=True)):
            if beat.due_ns > now_ns or (taken := beat.take(now_ns)) is None:
                continue
            stamp_ns, arrival_ns, seq = (
                taken[0] + self.start_ns,
                taken[1] + self.start_ns,
                taken[2],
            )
            self._send(number, arrival_ns, stamp_ns, seq, sensor.look(stamp_ns, seq))
            truth = self._out.time_reference(
                stamp_ns, self._truths, self.start_ns + now_ns, sensor.topic
            )
            self._send(len(self._sensors), arrival_ns, stamp_ns, self._truths, truth)
            self._truths += 1

    def _send(self, number: int, arrival_ns: int, stamp_ns: int, seq: int, payload: bytes) -> None:
        channel = self.channels[number]
        raw = RawMessage(
            topic=channel.topic,
            recv_ns=arrival_ns,
            stamp_ns=stamp_ns,
            seq=seq if self._out.encoding == "ros1" else None,
            type=channel.type,
            encoding=self._out.encoding,
            payload=payload,
        )
        self._number += 1
        heapq.heappush(self._sent, (arrival_ns, self._number, raw))

    def _arrived(self, now_ns: int) -> list[RawMessage]:
        arrived = []
        while self._sent and self._sent[0][0] <= self.start_ns + now_ns:
            arrived.append(heapq.heappop(self._sent)[2])
        return arrived
