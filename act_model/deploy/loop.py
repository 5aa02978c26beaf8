"""The control tick: what was seen, what was predicted, what may be sent. It waits for nobody.

    feed (newest observation) --> inference (chunks) --> chunker (action of this tick)
                                                           --> safety filter --> sink

Action i of a chunk is valid at the time of its observation plus i periods of the policy. A tick
asks for the action of its own deadline, so what comes late is dropped, by time.

Shape suffixes: A action dim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from act_data.errors import ActError, DataError
from act_data.types import NS_PER_MS, NS_PER_S
from act_model.chunking import Chunker
from act_model.commands import PlanSink, Sink
from act_model.config import Contract
from act_model.deploy.clock import Clock
from act_model.deploy.feed import EndOfFeed, Feed, Seen
from act_model.deploy.gates import Gates
from act_model.deploy.inference import Chunk, Inference, Request
from act_model.deploy.measures import Measures
from act_model.deploy.operator import Halt, Operator
from act_model.deploy.recorder import Recorder
from act_model.deploy.settings import Rules, State, Stop
from act_model.deploy.tape import Tape
from act_model.robot_io import Mode
from act_model.safety import SafetyFilter
from act_model.watchdog import Watchdog

_ON_A_TICK = 1e-3  # of a period: a time so near to a tick is that tick's
_PLANNED_S = 1.0  # what a controller is told ahead; a control tick that dies leaves it that long
_COME_TO_REST_NS = NS_PER_S // 2
_START_NS = 60 * NS_PER_S  # a robot that is to move must be seen and predicted for within this


@dataclass(kw_only=True)
class Parts:
    """What a loop is made of.

    Attributes:
        sink: Where commands go; None in a mode that moves nothing.
        max_prefix: The longest prefix that the policy continues; 0: it is not given one.
    """

    contract: Contract
    mode: Mode
    rules: Rules
    clock: Clock
    feed: Feed
    inference: Inference
    chunker: Chunker
    safety: SafetyFilter
    sink: Sink | None
    operator: Operator
    measures: Measures
    tape: Tape | None = None
    recorder: Recorder | None = None
    watchdog: Watchdog | None = None
    max_prefix: int = 0
    start_ns: int = field(default=0)


class Loop:
    """One rollout while it runs."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self.state = State.WARMUP
        self.cause = self.hint = ""
        self._control_ns = NS_PER_S / (parts.rules.control_hz or parts.contract.rate_hz)
        self._period_ns = NS_PER_S / parts.contract.rate_hz
        self._max_age_ns = round(parts.rules.max_age_ms * NS_PER_MS)
        self._hold_ns = round(parts.rules.hold_s * NS_PER_S)
        self._gates = Gates(parts.contract, parts.rules, parts.safety.limits)

        self._episode = -1
        self._origin_ns = 0  # tick 0 of the episode
        self._tick = 0  # control ticks of the episode
        self._place = 0.0  # of this tick's deadline, in ticks of the policy

        self._seen: Seen | None = None
        self._measured_A: NDArray[np.float32] | None = None
        self._demonstrated_A: NDArray[np.float32] | None = None
        self._valid_ns: int | None = None  # when the newest valid observation was taken
        self._valid_in_a_row = 0
        self._stale = False
        self._returning = False  # seen again, and not trusted yet

        self._offered: Request | None = None  # without an answer
        self._offered_tick = 0
        self._newest_place = -math.inf  # of the newest observation that was offered
        self._chunk_place: float | None = None
        self._chunk_ns = 0  # when the observation of the newest chunk was taken
        self._spliced = False
        self._policy_error: ActError | None = None

        self._goes = 0
        self._until = -math.inf  # step mode: the place at which it holds again
        self._since_ns = parts.start_ns
        self._halt: Halt | None = None
        sink = parts.sink
        self._plans = sink if isinstance(sink, PlanSink) and sink.plans else None
        self._planned_ns = 0.0  # until when
        self._sent_A: NDArray[np.float32] | None = None

    def run(self, max_ticks: int | None) -> Stop:
        """Tick until there is a reason to stop."""
        p, m = self._p, self._p.measures
        number, before_ns = 0, 0
        while max_ticks is None or number < max_ticks:
            # From the start and not from the tick before: rounding and delays do not add up.
            deadline_ns = p.start_ns + round(number * self._control_ns)
            p.clock.sleep_until(deadline_ns)
            began_ns = p.clock.now_ns()
            if p.watchdog is not None:
                p.watchdog.beat()
            try:
                stop = self.tick(deadline_ns)
            except EndOfFeed:
                return Stop.END
            number += 1
            m.ticks = number
            if number == 1:
                m.first_ns = began_ns
            else:
                m.jitter.add(abs(began_ns - before_ns - self._control_ns) / NS_PER_MS)
            m.last_ns = before_ns = began_ns
            m.lateness.add((began_ns - deadline_ns) / NS_PER_MS)
            ended_ns = p.clock.now_ns()
            m.work.add((ended_ns - began_ns) / NS_PER_MS)
            if ended_ns > p.start_ns + round(number * self._control_ns):
                m.deadline_misses += 1
            if stop is not None:
                return stop
        return Stop.TICKS

    def tick(self, deadline_ns: int) -> Stop | None:
        """One tick; a reason to stop after it.

        Raises:
            EndOfFeed: The robot has no further tick.
        """
        fresh = self._see(deadline_ns)
        self._place = self._place_of(deadline_ns)
        self._take()
        self._ask(deadline_ns)
        if not self._p.mode.real_time:
            self._take()
        halted = self._halted()
        if halted is not None and (halted.stop is Stop.ESTOP or not self._p.mode.moves):
            return self._end(halted)
        raw_A, human = self._wanted()
        halt = self._advance(deadline_ns, raw_A)
        if halt is not None:
            return self._end(halt)
        self._act(deadline_ns, raw_A, human, fresh)
        if self._halt is not None:
            rested = self._p.safety.at_rest
            if rested or deadline_ns - self._since_ns > _COME_TO_REST_NS:
                return self._end(self._halt)
        self._tick += 1
        return None

    # --- what was seen ------------------------------------------------------------------------

    def _see(self, deadline_ns: int) -> bool:
        """Take the newest observation; whether it is a new one."""
        seen = self._p.feed.newest(deadline_ns)
        if seen is None or seen is self._seen:
            return False
        self._seen = seen
        self._p.measures.observations += 1
        if seen.observation.first or self._episode < 0:
            self._begin_episode(seen)
        self._measured_A = self._vector(seen.observation.measured)
        self._demonstrated_A = self._vector(seen.observation.demonstrated)
        if not seen.observation.valid:
            self._p.measures.invalid_observations += 1
            self._valid_in_a_row = 0
        elif self._valid_ns is None or seen.taken_ns > self._valid_ns:
            self._valid_ns = seen.taken_ns
            self._valid_in_a_row += 1
        return True

    def _vector(self, value: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        """`value` if it is (A,) numbers, as a robot should have it."""
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            return None
        return value if value.shape == self._gates.shape else None

    def _begin_episode(self, seen: Seen) -> None:
        self._episode += 1
        self._p.measures.episodes += 1
        self._p.chunker.reset()
        self._p.safety.reset()
        self._origin_ns, self._tick = seen.taken_ns, 0
        self._offered = self._chunk_place = self._sent_A = self._valid_ns = None
        self._newest_place = self._until = -math.inf
        self._stale = self._spliced = False
        self.state = State.WARMUP

    def _place_of(self, at_ns: int) -> float:
        place = (at_ns - self._origin_ns) / self._period_ns
        nearest = round(place)
        return float(nearest) if abs(place - nearest) < _ON_A_TICK else place

    # --- what is predicted --------------------------------------------------------------------

    def _take(self) -> None:
        """Give the chunks that arrived to the chunker."""
        if self._policy_error is not None:
            return
        try:
            chunks = self._p.inference.arrived()
        except ActError as error:
            if not self._p.mode.moves:
                raise
            self._policy_error = error
            return
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as broken:
            if not self._p.mode.moves:
                raise
            what = f"{type(broken).__name__}: {' '.join(str(broken).split())[:300]}"
            self._policy_error = DataError(f"the policy failed: {what}")
            return
        for chunk in chunks:
            self._p.measures.inference.add(chunk.latency_ns / NS_PER_MS)
            if chunk.request.episode == self._episode:
                self._add(chunk)

    def _add(self, chunk: Chunk) -> None:
        p, m, request = self._p, self._p.measures, chunk.request
        m.latency.add(p.clock.now_ns() - request.offered_ns)
        elapsed = 0
        if request is self._offered:
            self._offered = None
            elapsed = self._tick - self._offered_tick
        if chunk.error is not None:
            if not p.mode.moves:
                raise chunk.error
            m.invalid_observations += 1
            return
        rejected = p.safety.admit(chunk.actions, p.contract.chunk_size)
        if rejected is not None:
            m.rejected_chunks += 1
            m.rejection = rejected
            return
        if self._chunk_place is not None and request.place <= self._chunk_place:
            m.late_chunks += 1  # one from a later observation was here first
            return
        late = math.ceil(self._place - request.place)
        m.discarded_actions += min(late, len(chunk.actions))
        # By the clocks so many ticks have passed since the observation was taken; by counting, so
        # many since it was offered, and it was not older than that for long.
        counted = elapsed * self._control_ns / self._period_ns
        offered = (request.offered_ns - request.seen.taken_ns) / self._period_ns
        if elapsed and abs(self._place - request.place - counted - offered) > 1 + 1e-6:
            m.splice_mismatches += 1
        if late >= len(chunk.actions):
            m.late_chunks += 1
        with np.errstate(
            all="ignore"
        ):  # numbers so large that they overflow do not pass the filter
            p.chunker.add(request.place, chunk.actions, self._place)
        m.chunks += 1
        self._chunk_place, self._chunk_ns = request.place, request.seen.taken_ns
        self._spliced = True
        if p.mode is Mode.STEP:
            self._until = self._place + p.chunker.every

    def _reserve(self) -> float:
        """Ticks of the policy that its next prediction will take, and one to spare."""
        latency_ns = self._p.measures.latency.p95_ns
        if latency_ns is None:  # not known yet: in time whatever it takes
            return self._p.contract.chunk_size if self._p.mode.real_time else 0
        return latency_ns / self._period_ns + 1 if latency_ns else 0

    def _ask(self, deadline_ns: int) -> None:
        """Offer the newest observation to the policy, if it is time to."""
        p, seen = self._p, self._seen
        if seen is None or not seen.observation.valid or self._policy_error is not None:
            return
        place = self._place_of(seen.taken_ns)
        if place <= self._newest_place:
            return
        if p.mode is Mode.STEP:
            if self._goes >= p.operator.goes or self._offered is not None:
                return
            self._goes = p.operator.goes
            p.chunker.reset()
        else:
            # A prediction is ordered so early that the queue lasts until it is there.
            reserve = self._reserve()
            if not p.chunker.wants(self._place, reserve):
                return
            if self._offered is not None and place - self._offered.place < p.chunker.every:
                return  # it is being predicted from; later this one may replace it
        self._newest_place = place
        self._offered = Request(
            seen=seen,
            episode=self._episode,
            place=place,
            offered_ns=p.clock.now_ns(),
            prefix=self._prefix(place),
        )
        self._offered_tick = self._tick
        p.inference.offer(self._offered)

    def _prefix(self, place: float) -> NDArray[np.float32] | None:
        """The actions that will have been executed when the prediction is there."""
        if not self._p.max_prefix or self._chunk_place is None:
            return None
        latency_ns = self._p.measures.latency.p95_ns
        ahead = self._p.max_prefix  # not known yet: in time whatever it takes
        if latency_ns is not None:
            ahead = math.ceil(self._place - place + latency_ns / self._period_ns) + 1
        actions = []
        for i in range(min(ahead, self._p.max_prefix)):
            action_A = self._p.chunker.next(place + i)
            if action_A is None:
                break
            actions.append(action_A)
        return np.stack(actions) if actions else None

    # --- what is commanded --------------------------------------------------------------------

    def _wanted(self) -> tuple[NDArray[np.float32] | None, bool]:
        """The action of this tick before the filter, and whether a person wants it."""
        seen = self._seen
        if seen is not None and seen.observation.taken_over:
            return self._demonstrated_A, True
        if self._p.mode is Mode.STEP and self._place >= self._until:
            return None, False
        with np.errstate(all="ignore"):
            return self._p.chunker.next(self._place), False

    def _halted(self) -> Halt | None:
        if self._halt is None:
            self._halt = self._p.operator.halt
            if self._halt is None and self._p.watchdog is not None and self._p.watchdog.tripped:
                self._halt = Halt(Stop.WATCHDOG, "the control tick had been silent for too long")
            if self._halt is not None:
                self._since_ns = self._p.clock.now_ns()
        return self._halt

    def _end(self, halt: Halt) -> Stop:
        self.state, self.cause, self.hint = State.STOPPED, halt.cause, halt.hint
        return halt.stop

    def _advance(self, deadline_ns: int, raw_A: NDArray[np.float32] | None) -> Halt | None:
        """The state at this tick; a reason to stop."""
        if self._halt is not None:
            return self._halt if self._halt.stop is Stop.WATCHDOG else None
        trouble = self._trouble(deadline_ns, raw_A)
        moves = self._p.mode.moves
        if self.state is State.WARMUP:
            if self._policy_error is not None:
                return trouble
            if raw_A is not None and trouble is None:
                self.state = State.READY if moves else State.RUN
            elif (
                moves
                and self._p.mode is not Mode.STEP
                and deadline_ns - self._p.start_ns > _START_NS
            ):
                return trouble or Halt(Stop.STARVED, "the policy gave no first chunk")
        if self.state is State.READY:
            if self._policy_error is not None:
                return trouble
            if self._p.operator.armed and raw_A is not None and trouble is None:
                self.state = State.ARMED
        if self.state is State.ARMED and raw_A is not None:
            return self._begin(raw_A)
        if self.state is State.RUN:
            if trouble is not None:
                self.state, self._since_ns = State.DEGRADED, deadline_ns
                self._p.measures.degradations += 1
            elif moves and self._sent_A is not None and self._measured_A is not None:
                return self._gates.following(self._sent_A, self._measured_A, deadline_ns)
        elif self.state is State.DEGRADED:
            if trouble is None:
                self.state = State.RUN
            elif moves and deadline_ns - self._since_ns >= self._hold_ns * (1 + self._returning):
                return trouble
        return None

    def _trouble(self, deadline_ns: int, raw_A: NDArray[np.float32] | None) -> Halt | None:
        """Why the robot must be held now."""
        if self._policy_error is not None:
            return Halt(Stop.POLICY, str(self._policy_error))
        if self._valid_ns is None:
            return Halt(Stop.STALE, "the robot was never seen")
        age_ns = deadline_ns - self._valid_ns
        if age_ns > self._max_age_ns:
            self._stale, self._valid_in_a_row = True, 0
        elif self._stale and self._valid_in_a_row >= self._p.rules.fresh:
            self._stale = False
        self._returning = self._stale and age_ns <= self._max_age_ns
        if self._stale:
            return Halt(
                Stop.STALE,
                f"the newest valid observation is {age_ns / NS_PER_MS:.0f} ms old, "
                f"{self._p.rules.max_age_ms:g} ms are allowed",
            )
        if raw_A is None and not (self._p.mode is Mode.STEP and self._place >= self._until):
            why = ""
            if self._offered is not None:
                silent_ms = (deadline_ns - self._offered.offered_ns) / NS_PER_MS
                why = f"; it has not answered for {silent_ms:.0f} ms"
            if self._p.measures.rejection:
                why += f"; a chunk was refused: {self._p.measures.rejection}"
            return Halt(Stop.STARVED, f"the policy has given no action for this moment{why}")
        return None

    def _begin(self, raw_A: NDArray[np.float32]) -> Halt | None:
        """The first command of an episode, if it is near enough to where the robot is."""
        measured = self._measured_A
        if measured is not None and self._p.mode.moves:
            halt = self._gates.first(raw_A, measured)
            if halt is not None:
                return halt
            self._p.safety.start(measured)
        self.state = State.RUN
        return None

    def _act(
        self, deadline_ns: int, raw_A: NDArray[np.float32] | None, human: bool, fresh: bool
    ) -> None:
        """Filter, send, note."""
        p, m, seen = self._p, self._p.measures, self._seen
        if human:
            m.taken_over_ticks += 1
        elif raw_A is not None and self._chunk_place is not None:
            m.age.add((p.clock.now_ns() - self._chunk_ns) / NS_PER_MS)
            m.depth.add(max(0.0, p.contract.chunk_size - (self._place - self._chunk_place)))
        elif self._chunk_place is None:
            m.waiting_ticks += 1
        elif p.mode is not Mode.STEP:
            m.starved_ticks += 1
        if self.state is State.DEGRADED or self._halt is not None:
            m.held_ticks += 1
            raw_A = None
        live = self.state in (State.RUN, State.DEGRADED)
        filtered = p.safety.apply(raw_A if live else None)
        action_A, sent = filtered.action, False
        if p.sink is not None and live:
            if action_A is not None:
                if self._plans is not None:
                    if raw_A is not None and not human:
                        self._plan(self._plans, action_A, deadline_ns)
                    else:
                        self._planned_ns = 0.0
                p.sink.send(action_A, deadline_ns)
                m.sent += 1
                sent = True
                if p.watchdog is not None:
                    p.watchdog.arm()
            else:
                p.sink.hold()
            if p.watchdog is not None and self._plans is not None:
                p.watchdog.tell(self._plans.planned)
        if action_A is not None:
            if self._spliced and self._sent_A is not None and raw_A is not None:
                m.seam.add(float(np.abs(action_A - self._sent_A).max()))
            self._sent_A = action_A
        self._spliced = self._spliced and raw_A is None
        demonstrated = self._demonstrated_A
        if fresh and not human and action_A is not None and demonstrated is not None:
            m.compare(action_A, demonstrated)
        if p.recorder is not None and fresh and sent and seen is not None and action_A is not None:
            p.recorder.put(seen, action_A, human=human)
        if p.tape is not None:
            p.tape.put(
                episode=max(self._episode, 0),
                tick=self._tick,
                at_ns=deadline_ns - p.start_ns,
                state=self.state,
                human=human,
                filtered=filtered,
                sent=sent,
                demonstrated=demonstrated if fresh else None,
            )

    def _plan(self, sink: PlanSink, action_A: NDArray[np.float32], deadline_ns: int) -> None:
        """Tell what is to come, where it is new, or half of what was told is over."""
        if not self._spliced and self._planned_ns - deadline_ns > _PLANNED_S * NS_PER_S / 2:
            return
        self._planned_ns = deadline_ns + _PLANNED_S * NS_PER_S
        raws = []
        for i in range(1, math.ceil(_PLANNED_S * NS_PER_S / self._control_ns)):
            place = self._place_of(deadline_ns + round(i * self._control_ns))
            raw_A = self._p.chunker.next(place)
            if raw_A is None:  # the chunk ends: there is no more to tell before the next one
                self._planned_ns = math.inf
                break
            raws.append(raw_A)
        path_HA = np.stack([action_A, *self._p.safety.ahead(raws)])
        sink.plan(path_HA, deadline_ns, round(self._control_ns))
