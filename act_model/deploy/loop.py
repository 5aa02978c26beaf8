"""The control loop: observe, take the action of this tick, filter it, log it. Nothing waits.

In replay the clock is simulated and a prediction is there in the tick that asked for it: the same
checkpoint on the same episode gives the same actions. In shadow the clock is real and predictions
arrive when they are done. Neither mode moves anything; the others send what passed the filter to a
sink, and bring it to rest on every way out.

Shape suffixes: A action dim.
"""

from __future__ import annotations

from pathlib import Path

from act_data.errors import ActError, InputError
from act_data.types import NS_PER_S
from act_model.chunking import Chunker
from act_model.deploy.action_log import ActionLog
from act_model.deploy.clock import Clock, MonotonicClock, SimulatedClock
from act_model.deploy.inference import (
    Chunk,
    Inference,
    InlineInference,
    Predictor,
    Request,
    WorkerInference,
)
from act_model.deploy.report import Measures, RolloutReport, Stop, joint_errors
from act_model.policy import blank_observation, check_contract
from act_model.robot_io import Mode, RobotIO, RobotObservation, Sink
from act_model.safety import SafetyFilter


def deploy(
    policy: Predictor,
    robot: RobotIO,
    *,
    mode: Mode,
    chunker: Chunker,
    sink: Sink | None = None,
    safety: SafetyFilter | None = None,
    log: Path | None = None,
    max_ticks: int | None = None,
    clock: Clock | None = None,
) -> RolloutReport:
    """Run `policy` on what `robot` sees until that ends; robot and sink are closed.

    Ticks fall on absolute deadlines. One that is late does not move those after it: they follow
    without a pause until the time is made up.

    Args:
        policy: Usually a `Policy`.
        robot: Checked against the policy's contract before the first tick.
        chunker: Which of the predicted actions a tick takes; of the policy's chunk size.
        sink: Where commands go in a mode that moves the robot; not used in the others.
        safety: None: limits from the range of the training data, see `SafetyFilter.from_stats`.
        log: Where to write every action; an existing file is replaced.
        max_ticks: Stop after this many; None: go on to the end.
        clock: None: real in shadow, simulated in replay.

    Returns:
        The account, also after Ctrl-C or an error of the recording or the policy.

    Raises:
        InputError: The robot does not fit the policy, there is no sink where one is needed, or
            `max_ticks` is not positive.
        StoreError: The log cannot be opened.
    """
    if max_ticks is not None and max_ticks < 1:
        raise InputError(f"max_ticks is {max_ticks!r}", hint="Use a positive number, or leave it.")
    if mode.moves and sink is None:
        raise InputError(f"mode {mode.value} moves the robot, and there is no sink for commands")
    commands = sink if mode.moves else None
    contract = policy.contract
    check_contract(contract, robot.contract)
    safety = safety or SafetyFilter.from_stats(contract.action, policy.stats)
    real_time = mode.real_time
    if clock is None:
        clock = MonotonicClock() if real_time else SimulatedClock()
    measures = Measures(contract.rate_hz)
    actions = None if log is None else ActionLog(log)
    stop, failure, ended = Stop.ERROR, ActError(""), True
    inference: Inference | None = None
    try:
        try:
            if real_time:  # the first prediction is slow: have it before the first tick
                policy.predict(blank_observation(contract))
                inference = WorkerInference(policy)
            else:
                inference = InlineInference(policy)
            loop = _Loop(inference, robot, chunker, commands, safety, measures, actions, clock)
            stop = loop.run(max_ticks)
        finally:
            # The one way out, whatever happened: the robot rests, no prediction runs on, the log
            # is whole.
            if commands is not None:
                commands.stop()
            ended = inference is None or inference.close()
            robot.close()
            if sink is not None:
                sink.close()
            if actions is not None:
                actions.close()
    except KeyboardInterrupt:
        stop = Stop.INTERRUPTED
    except ActError as error:
        stop, failure = Stop.ERROR, error
    return measures.report(
        mode=mode.value,
        robot=contract.robot,
        stop=stop,
        error=str(failure),
        hint=failure.hint,
        real_time=real_time,
        safety=safety.counts,
        joints=joint_errors(measures.errors, contract.action, policy.stats),
        policy_hangs=not ended,
    )


class _Loop:
    """One rollout while it runs."""

    def __init__(
        self,
        inference: Inference,
        robot: RobotIO,
        chunker: Chunker,
        sink: Sink | None,
        safety: SafetyFilter,
        measures: Measures,
        actions: ActionLog | None,
        clock: Clock,
    ) -> None:
        self._inference = inference
        self._robot = robot
        self._chunker = chunker
        self._sink = sink
        self._safety = safety
        self._measures = measures
        self._actions = actions
        self._clock = clock
        self._episode = -1
        self._offered: int | None = None  # tick of the newest observation without an answer
        self._seen_ns: int | None = None  # when the observation of the newest chunk was taken

    def run(self, max_ticks: int | None) -> Stop:
        period_ns = NS_PER_S / self._measures.nominal_hz
        start_ns = self._clock.now_ns()
        number = 0
        while max_ticks is None or number < max_ticks:
            # From the start and not from the tick before: rounding and delays do not add up.
            self._clock.sleep_until(start_ns + round(number * period_ns))
            began_ns = self._clock.now_ns()
            observation = self._robot.observe()
            if observation is None:
                return Stop.END
            self._measures.started_ns.append(began_ns)
            self._measures.ticks += 1
            self._tick(observation, start_ns + round(number * period_ns))
            number += 1
            if self._clock.now_ns() > start_ns + round(number * period_ns):
                self._measures.deadline_misses += 1
        return Stop.TICKS

    def _tick(self, observation: RobotObservation, deadline_ns: int) -> None:
        taken_ns = self._clock.now_ns()
        if observation.first:
            self._begin_episode()
        self._take(observation.tick)
        if not observation.valid:
            self._measures.invalid_observations += 1
        elif self._due(observation.tick):
            self._offered = observation.tick
            self._inference.offer(
                Request(observation=observation, episode=self._episode, taken_ns=taken_ns)
            )
            self._take(observation.tick)
        self._act(observation, deadline_ns)

    def _begin_episode(self) -> None:
        self._episode += 1
        self._measures.episodes += 1
        self._chunker.reset()
        self._safety.reset()
        self._offered = self._seen_ns = None

    def _due(self, tick: int) -> bool:
        """Whether to predict from this tick, which may replace an observation that still waits."""
        if not self._chunker.wants(tick):
            return False
        return self._offered is None or tick - self._offered >= self._chunker.every

    def _take(self, now: int) -> None:
        """Give the chunks that arrived to the chunker."""
        for chunk in self._inference.arrived():
            self._measures.inference_ns.append(chunk.latency_ns)
            if chunk.request.episode == self._episode:
                self._add(chunk, now)

    def _add(self, chunk: Chunk, now: int) -> None:
        observed = chunk.request.observation.tick
        if observed == self._offered:
            self._offered = None
        if self._safety.admit(chunk.actions) is not None:
            self._measures.rejected_chunks += 1
            return
        self._chunker.add(observed, chunk.actions)
        self._measures.chunks += 1
        self._measures.discarded_actions += min(now - observed, len(chunk.actions))
        self._seen_ns = chunk.request.taken_ns

    def _act(self, observation: RobotObservation, deadline_ns: int) -> None:
        measures = self._measures
        raw_A = self._chunker.next(observation.tick)
        if raw_A is not None and self._seen_ns is not None:
            measures.age_ns.append(self._clock.now_ns() - self._seen_ns)
        elif self._seen_ns is None:
            measures.waiting_ticks += 1
        else:
            measures.starved_ticks += 1
        filtered = self._safety.apply(raw_A)
        if self._sink is not None and filtered.action is not None:
            self._sink.send(filtered.action, deadline_ns)
        if filtered.action is not None and observation.demonstrated is not None:
            measures.compare(filtered.action, observation.demonstrated)
        if self._actions is not None:
            self._actions.write(self._episode, observation.tick, filtered, observation.demonstrated)
