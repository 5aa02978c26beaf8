"""One rollout: its parts are put together, it runs, and whatever happens the robot comes to rest.

In replay and sim the clock is simulated and a prediction is there in the tick that asked for it,
or after a latency that one says: the same checkpoint on the same episode gives the same actions. In
shadow, step and live the clock is real and predictions arrive when they are done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from act_data.errors import ActError, InputError
from act_model.chunking import Chunker
from act_model.commands import Sink, velocities
from act_model.contract import blank_observation, check_contract
from act_model.deploy.clock import Clock, MonotonicClock, SimulatedClock
from act_model.deploy.feed import AheadFeed, Feed, LiveFeed, LockstepFeed
from act_model.deploy.inference import (
    Inference,
    InlineInference,
    Predictor,
    WorkerInference,
)
from act_model.deploy.loop import Loop, Parts
from act_model.deploy.measures import Measures
from act_model.deploy.operator import Operator
from act_model.deploy.realtime import realtime
from act_model.deploy.recorder import Recorder
from act_model.deploy.report import RolloutReport, joint_errors, joint_hits, measured
from act_model.deploy.settings import Rules, Stop
from act_model.deploy.tape import Tape
from act_model.robot_io import Mode, RobotIO
from act_model.safety import Limits, SafetyFilter, Tips
from act_model.watchdog import Watchdog

_FAILED = {
    Stop.ESTOP: "the emergency stop was pulled",
    Stop.STALE: "the robot was not seen for too long",
    Stop.STARVED: "the policy gave no action for too long",
    Stop.POLICY: "the policy has died",
    Stop.FIRST_COMMAND: "the first command is too far from where the robot is",
    Stop.TRACKING: "the robot does not follow its commands",
    Stop.WATCHDOG: "the watchdog has stopped the robot",
}
_WAY_OUT = {
    Stop.FIRST_COMMAND: "Move the robot nearer, or let it go there slowly: --first-command ramp.",
    Stop.STARVED: "See the inference times in the report: a slower rate, or a faster machine.",
    Stop.STALE: "See which stream is silent with `act-data show`, or allow more: --max-age-ms.",
    Stop.TRACKING: "See whether the robot is blocked, or off; --tracking-tolerance 0 allows it.",
}


def deploy(
    policy: Predictor,
    robot: RobotIO,
    *,
    mode: Mode,
    chunker: Chunker,
    sink: Sink | None = None,
    limits: Limits | None = None,
    workspace: Tips | None = None,
    rules: Rules | None = None,
    log: Path | None = None,
    max_ticks: int | None = None,
    clock: Clock | None = None,
    operator: Operator | None = None,
    recorder: Recorder | None = None,
    watchdog: Watchdog | None = None,
    abandon: Callable[[], None] | None = None,
    latency_ns: Callable[[], int] | None = None,
    max_prefix: int = 0,
    fifo: bool = False,
) -> RolloutReport:
    """Run `policy` on what `robot` sees until that ends; robot, sink and recorder are closed.

    Ticks fall on absolute deadlines. One that is late does not move those after it: they follow
    without a pause until the time is made up.

    Args:
        policy: Usually a `Policy`, or a `ProcessPolicy` that is loaded.
        robot: Checked against the policy's contract before the first tick.
        chunker: Which of the predicted actions a tick takes; of the policy's chunk size.
        sink: Where commands go in a mode that moves the robot; not used in the others.
        limits: None: from the range of the training data, see `Limits.from_stats`.
        workspace: Where the robot's tips may be; None: anywhere.
        log: Where to write every action; an existing file is replaced.
        max_ticks: Stop after this many; None: go on to the end.
        clock: None: real or simulated, as the mode has it.
        operator: Who arms and stops; None: armed, and stopped by KeyboardInterrupt only.
        recorder: What was sent becomes episodes of its dataset.
        watchdog: Started, for the same sink.
        abandon: Ends a policy that hangs.
        latency_ns: Of each prediction, in simulated time; None: no time.
        max_prefix: How many actions that are on their way the policy is told; it must be a
            `PrefixPredictor`.
        fifo: Ask for real-time scheduling; in real time only.

    Returns:
        The account, also after Ctrl-C or an error of the recording or the policy.

    Raises:
        InputError: The robot does not fit the policy, there is no sink where one is needed, or
            `max_ticks` is not positive.
        StoreError: The log cannot be opened.
    """
    contract = policy.contract
    rules = rules or Rules()
    commands = sink if mode.moves else None
    with contextlib.ExitStack() as opened:
        if sink is not None:
            opened.callback(sink.close)
        if max_ticks is not None and max_ticks < 1:
            raise InputError(
                f"max_ticks is {max_ticks!r}", hint="Use a positive number, or leave it."
            )
        if mode.moves and sink is None:
            raise InputError(
                f"mode {mode.value} moves the robot, and there is no sink for commands",
                hint="Name one with --sink, or use replay or shadow.",
            )
        check_contract(contract, robot.contract)
        limits = limits or Limits.from_stats(contract.action, policy.stats)
        control_hz = rules.control_hz or contract.rate_hz
        safety = SafetyFilter(
            limits,
            1 / control_hz,
            velocities=velocities(contract.action),
            workspace=workspace,
        )
        operator = operator or Operator()
        measures = Measures(control_hz)
        lockstep = clock is not None or not mode.real_time
        clock = clock or (MonotonicClock() if mode.real_time else SimulatedClock())
        tape = None
        if log is not None:
            tape = Tape(log, len(limits.low), threaded=not lockstep)

        stop, cause, hint = Stop.ERROR, "", ""
        failure, ended, scheduling = ActError(""), True, ""
        inference: Inference | None = None
        feed: Feed | None = None
        try:
            try:
                if mode.real_time:
                    # The first prediction is slow: have it before the first tick.
                    policy.predict(blank_observation(contract))
                    inference = WorkerInference(policy, abandon)
                else:
                    inference = InlineInference(policy, clock, latency_ns or (lambda: 0))
                if robot.keeps_time:
                    feed = LiveFeed(robot, clock, rules)
                elif lockstep:
                    feed = LockstepFeed(robot, clock.now_ns())
                else:
                    feed = ahead = AheadFeed(robot)
                    ahead.wait()
                with contextlib.ExitStack() as timed:
                    if not lockstep:
                        scheduling = timed.enter_context(realtime(fifo=fifo))
                    start_ns = clock.now_ns()
                    if isinstance(feed, AheadFeed):
                        feed.start(start_ns)
                    loop = Loop(
                        Parts(
                            contract=contract,
                            mode=mode,
                            rules=rules,
                            clock=clock,
                            feed=feed,
                            inference=inference,
                            chunker=chunker,
                            safety=safety,
                            sink=commands,
                            operator=operator,
                            measures=measures,
                            tape=tape,
                            recorder=recorder,
                            watchdog=watchdog,
                            max_prefix=max_prefix,
                            start_ns=start_ns,
                        )
                    )
                    stop = loop.run(max_ticks)
                    cause, hint = loop.cause, loop.hint
            finally:
                # The one way out, whatever happened: the robot rests before anything else ends.
                if commands is not None:
                    commands.stop()
                if watchdog is not None:
                    watchdog.close()
                ended = inference is None or inference.close()
                if feed is None:
                    robot.close()
                else:
                    feed.close()
                try:
                    if recorder is not None:
                        recorder.close()
                finally:
                    if tape is not None:
                        tape.close()
        except KeyboardInterrupt:
            stop = Stop.INTERRUPTED
        except ActError as error:
            stop, failure = Stop.ERROR, error
        if stop in _FAILED:
            failure = ActError(
                _FAILED[stop] + (f": {cause}" if cause else ""), hint=hint or _WAY_OUT.get(stop, "")
            )
    return RolloutReport.model_validate(
        {
            "mode": mode.value,
            "robot": contract.robot,
            "stop": stop,
            "cause": cause,
            "error": str(failure),
            "hint": failure.hint,
            **measured(measures, real_time=mode.real_time),
            "refused_observations": {} if feed is None else dict(feed.refused),
            "safety": dict(safety.counts),
            "hits": joint_hits(contract.action, safety),
            "joints": joint_errors(measures.errors, contract.action, policy.stats),
            "policy_hangs": not ended,
            "scheduling": scheduling,
            "log_dropped": 0 if tape is None else tape.dropped,
            "record_dropped": 0 if recorder is None else recorder.dropped,
            "recorded": () if recorder is None else recorder.uids,
        }
    )
