"""The simulated robot on live topics: its sensors publish in real time, as those of a robot do.

The caller's thread simulates a little ahead of the clock; another one sends every message when it
is due. What a message says of time is true however late that is: its sample was taken when the
room's clock stood where `TRUTH_TOPIC` says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Event, Thread

import numpy as np
from pydantic import Field

from act_data.commands import Publisher, open_publisher
from act_data.errors import ActError, DataError
from act_data.records import Record
from act_data.sources.outgoing import EMPTY, Outgoing
from act_data.sources.storage import Encoding
from act_data.types import NS_PER_MS, NS_PER_S, RawMessage
from act_model.sim.camera import check_cameras
from act_model.sim.demonstrations import check_size
from act_model.sim.expert import Expert
from act_model.sim.records import LiveEpisode, LiveSimulation, Realism, distribution, trial_of
from act_model.sim.sensors import Pictures, timing_of
from act_model.sim.simulation import TICK_NS, Simulation
from act_model.sim.tasks import task_named
from act_model.sim.world import World

BEGINS, ENDS = "/sim/begins", "/sim/ends"  # markers of each demonstration
REST_NS = 2 * NS_PER_S  # before it, so that a recorder hears every topic
_AHEAD_NS = 100 * NS_PER_MS
_DEPTH = 100  # of ROS 2: a second and more of the fastest camera
_IDLE_S = 0.05


class LiveRequest(Record):
    """Demonstrations on live topics, as a person asks for them.

    Attributes:
        ros: As `open_publisher` takes it: "ros1", "ros1:MASTER_URI", "ros2", "ros2:DOMAIN".
        episodes: Demonstrations, one after the other; what fails is seen, too.
        ticks: Length of a demonstration; the whole one by default.
        wait_s: How long nobody may listen before the first one.
    """

    task: str
    ros: str
    episodes: int = Field(10, ge=1, le=100_000)
    first_seed: int = Field(0, ge=0, le=100_000)
    realism: Realism = "none"
    timing: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    size: tuple[int, int] = (480, 640)
    jpeg: int | None = Field(None, ge=1, le=100)
    ticks: int | None = Field(None, ge=1, le=100_000)
    wait_s: float = Field(60.0, ge=0, allow_inf_nan=False)


def publish_live(
    request: LiveRequest, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> LiveSimulation:
    """Publish demonstrations of a task; Ctrl-C ends it after what was done.

    Before each, arms rest for two seconds, once somebody listens. `BEGINS` and `ENDS` say when it
    begins and when all of it was sent.

    Args:
        progress: Called with (demonstrations that are over, demonstrations wanted).

    Raises:
        InputError: There is no such task, camera, timing or ROS, or nothing can draw.
        NotFoundError: What that ROS needs is not installed.
        DataError: The master does not answer, nobody listens, or nobody can be reached any more.
    """
    began_s = time.monotonic()
    task = task_named(request.task)
    timing = timing_of(request.realism, request.timing)
    check_cameras(request.cameras)
    check_size(request.size)
    height, width = request.size
    pictures = Pictures(cameras=request.cameras, height=height, width=width, jpeg=request.jpeg)
    encoding: Encoding = "ros1" if request.ros.partition(":")[0] == "ros1" else "cdr"
    simulation = Simulation(task, pictures=pictures, timing=timing, encoding=encoding)
    types = {channel.topic: channel.type for channel in simulation.channels}
    episodes: list[LiveEpisode] = []
    try:
        publisher = open_publisher(request.ros, types | {BEGINS: EMPTY, ENDS: EMPTY}, depth=_DEPTH)
        try:
            stage = _Stage(simulation, publisher, request)
            stage.wait_for_listeners(began_s + request.wait_s)
            with suppress(KeyboardInterrupt):
                for seed in range(request.first_seed, request.first_seed + request.episodes):
                    episodes.append(stage.demonstrate(seed))
                    progress(len(episodes), request.episodes)
        finally:
            publisher.close()
    finally:
        simulation.close()
    return LiveSimulation(
        task=task.name,
        realism=request.realism,
        ros=publisher.name,
        episodes=tuple(episodes),
        wall_s=time.monotonic() - began_s,
    )


class _Stage:
    """Where one demonstration after the other is shown."""

    def __init__(self, simulation: Simulation, publisher: Publisher, request: LiveRequest) -> None:
        self._simulation = simulation
        self._publisher = publisher
        self._expert = Expert(simulation.world.task)
        self._ticks = request.ticks or simulation.world.task.ticks
        self._marker = Outgoing(publisher.encoding).empty()

    def wait_for_listeners(self, deadline_s: float) -> None:
        """Return once a topic of a sensor has a listener.

        Raises:
            DataError: There is none until `deadline_s`.
        """
        topics = [channel.topic for channel in self._simulation.channels]
        while not any(self._publisher.listeners(topic) for topic in topics):
            if time.monotonic() > deadline_s:
                raise DataError(
                    f"nobody listens on {self._publisher.name}",
                    hint="Start `act-data record` with the same ROS beside it.",
                )
            time.sleep(_IDLE_S)

    def demonstrate(self, seed: int) -> LiveEpisode:
        """Show the demonstration of `seed` from rest to end."""
        simulation = self._simulation
        simulation.begin(seed)
        path_TA = self._expert.plan(simulation.world)
        simulation.run(TICK_NS)  # a first picture takes as long as hundred others
        simulation.begin(seed, time.time_ns() + _AHEAD_NS)
        rewards: list[int] = []

        def on_tick(world: World) -> None:
            if simulation.now_ns >= REST_NS and len(rewards) < self._ticks:
                world.command(path_TA[min(len(rewards), len(path_TA) - 1)])
                rewards.append(world.reward)

        with _Courier(self._publisher) as courier:
            start_ns = simulation.start_ns
            for now_ns in range(0, REST_NS + self._ticks * TICK_NS, TICK_NS):
                if now_ns == REST_NS:
                    courier.put(start_ns + now_ns, BEGINS, self._marker)
                for raw in simulation.run(now_ns, on_tick):
                    courier.take(raw)
                courier.sleep_until(start_ns + now_ns - _AHEAD_NS)
            late = simulation.in_flight()
            for raw in late:
                courier.take(raw)
            over_ns = max([start_ns + simulation.now_ns, *(raw.recv_ns for raw in late)])
            courier.put(over_ns + 1, ENDS, self._marker)
        return LiveEpisode(
            trial=trial_of(seed, rewards),
            start_ns=start_ns + REST_NS,
            messages=courier.sent,
            late=distribution(np.array(courier.late_ns, np.int64)),
        )


class _Courier:
    """Sends messages when they are due, in the order in which it gets them.

    Attributes:
        sent: Messages.
        late_ns: Of each of them.
    """

    def __init__(self, publisher: Publisher) -> None:
        self.sent = 0
        self.late_ns: list[int] = []
        self._publisher = publisher
        self._due: SimpleQueue[tuple[int, str, bytes] | None] = SimpleQueue()
        self._given_up = Event()
        self._error: ActError | None = None
        self._thread = Thread(target=self._work, name="simulated sensors", daemon=True)

    def take(self, raw: RawMessage) -> None:
        """Send a message of a simulation when it arrives."""
        self.put(raw.recv_ns, raw.topic, bytes(raw.payload))

    def put(self, due_ns: int, topic: str, payload: bytes) -> None:
        """Send it when the clock stands at `due_ns`."""
        self._due.put((due_ns, topic, payload))

    def sleep_until(self, wall_ns: int) -> None:
        """Nothing is sent after an error: raises it instead of waiting."""
        if self._given_up.wait(max(0.0, (wall_ns - time.time_ns()) / NS_PER_S)):
            raise self._error or DataError("the simulated sensors have ended")

    def _work(self) -> None:
        try:
            while (item := self._due.get()) is not None and not self._given_up.is_set():
                due_ns, topic, payload = item
                if self._given_up.wait(max(0.0, (due_ns - time.time_ns()) / NS_PER_S)):
                    return
                self._publisher.publish(topic, payload)
                self.sent += 1
                self.late_ns.append(max(0, time.time_ns() - due_ns))
        except ActError as e:
            self._error = e
            self._given_up.set()

    def __enter__(self) -> _Courier:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._given_up.set()
        self._due.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error
