"""The parts of a control loop that a test moves by hand: clock, feed, inference and sink."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from act_model.chunking import ActionQueue, Chunker
from act_model.commands import Plan
from act_model.config import Contract
from act_model.deploy import Mode, Operator, Rules, SimulatedClock
from act_model.deploy.feed import Seen
from act_model.deploy.inference import Chunk, Request
from act_model.deploy.loop import Loop, Parts
from act_model.deploy.measures import Measures
from act_model.robot_io import RobotObservation, offered_by
from act_model.safety import Limits, SafetyFilter
from tests.model.memory_dataset import dataset_of, schema_of

K = 8
A = 3
CONTRACT: Contract = offered_by(dataset_of(4, schema=schema_of(cameras={})).schema).model_copy(
    update={"chunk_size": K}
)
PERIOD_NS = round(1e9 / CONTRACT.rate_hz)


def observation(tick: int, **more: object) -> RobotObservation:
    known: dict[str, object] = {
        "tick": tick,
        "tick_ns": tick * PERIOD_NS,
        "first": tick == 0,
        "valid": True,
        "arrays": lambda: {"qpos": np.zeros(A, np.float32)},
        "demonstrated": None,
    }
    return RobotObservation(**{**known, **more})  # type: ignore[arg-type]


class HandFeed:
    """Holds what a test puts there."""

    def __init__(self) -> None:
        self.seen: Seen | None = None
        self._number = 0

    def put(self, what: RobotObservation, taken_ns: int) -> None:
        self.seen = Seen(number=self._number, taken_ns=taken_ns, observation=what)
        self._number += 1

    def newest(self, deadline_ns: int) -> Seen | None:
        return self.seen

    @property
    def refused(self) -> Mapping[str, int]:
        return {}

    def close(self) -> None:
        pass


class HandInference:
    """Keeps requests until a test answers them."""

    def __init__(self) -> None:
        self.waiting: list[Request] = []
        self._done: list[Chunk] = []

    def offer(self, request: Request) -> None:
        self.waiting.append(request)

    def answer(self, request: Request, actions: object) -> None:
        self._done.append(
            Chunk(request=request, actions=actions, latency_ns=1)  # type: ignore[arg-type]
        )

    def arrived(self) -> list[Chunk]:
        done, self._done = self._done, []
        return done

    def close(self) -> bool:
        return True


class Commands:
    """A sink that remembers what it was told."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, NDArray[np.float32]]] = []
        self.told: list[str] = []

    def send(self, action_A: NDArray[np.float32], valid_ns: int) -> None:
        assert not self.told or self.told[-1] == "hold", "a command after stop or close"
        self.sent.append((valid_ns, action_A.copy()))

    def hold(self) -> None:
        self.told.append("hold")

    def stop(self) -> None:
        self.told.append("stop")

    def close(self) -> None:
        self.told.append("close")


class Planned(Commands):
    """And what it was told ahead: (valid_ns of its first action, period, (H, A))."""

    plans = True

    def __init__(self) -> None:
        super().__init__()
        self.ahead: list[tuple[int, int, NDArray[np.floating]]] = []
        self.planned: Plan | None = None

    def plan(self, path_HA: NDArray[np.floating], valid_ns: int, period_ns: int) -> None:
        self.planned = Plan(path_HA.copy(), valid_ns, period_ns)
        self.ahead.append((valid_ns, period_ns, self.planned.path))

    def recall(self, plan: Plan) -> None:
        raise AssertionError("the watchdog does that, in a process of its own")


class Bench:
    """A loop whose every part is in a test's hands."""

    def __init__(
        self,
        limits: Limits,
        *,
        rules: Rules | None = None,
        chunker: Chunker | None = None,
        mode: Mode = Mode.LIVE,
        sink: Commands | None = None,
    ) -> None:
        self.clock = SimulatedClock()
        self.feed, self.inference, self.sink = HandFeed(), HandInference(), sink or Commands()
        self.operator = Operator()
        rules = rules or Rules()
        self.control_ns = 1e9 / (rules.control_hz or CONTRACT.rate_hz)
        self.measures = Measures(1e9 / self.control_ns)
        self.safety = SafetyFilter(limits, self.control_ns / 1e9)
        self.loop = Loop(
            Parts(
                contract=CONTRACT,
                mode=mode,
                rules=rules,
                clock=self.clock,
                feed=self.feed,
                inference=self.inference,
                chunker=chunker or ActionQueue(K, A),
                safety=self.safety,
                sink=self.sink,
                operator=self.operator,
                measures=self.measures,
            )
        )
        self.number = 0

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns()

    def tick(self) -> object:
        """The next control tick; why it stops, if it does."""
        deadline_ns = round(self.number * self.control_ns)
        self.clock.sleep_until(deadline_ns)
        self.number += 1
        return self.loop.tick(deadline_ns)
