"""One stream on the way to its frames: the samples a tick may still take, and the choice."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic

from act_data.sync.evidence import REORDER_NS
from act_data.types import Pick, Reason, SyncPolicy, T

NEVER = -(2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncStream:
    """What the synchronizer has to know about a stream.

    Attributes:
        name: Unique.
        policy: Which sample a tick takes.
        tolerance_ns: The largest distance between sample and tick of a valid pick.
        required: Ticking begins when all required streams have appeared, and a frame is valid
            when all of their picks are.
        camera: The grid locks to the slowest required camera; cameras have a common spread.
        topic: For the report.
    """

    name: str
    policy: SyncPolicy
    tolerance_ns: int
    required: bool
    camera: bool = False
    topic: str = ""


class Sample(Generic[T]):
    """One message with its time on the synchronizer's clock."""

    __slots__ = ("index", "late", "payload", "recv_ns", "stamp_ns", "used")

    def __init__(self, stamp_ns: int, recv_ns: int, index: int, payload: T, late: bool) -> None:
        self.stamp_ns = stamp_ns
        self.recv_ns = recv_ns
        self.index = index
        self.payload = payload
        self.late = late  # it came after a tick that it precedes had left
        self.used = False


class Track(Generic[T]):
    """The samples of one stream in order of time, and which of them a tick takes.

    Ticks must be asked for in ascending order: what no later tick can take is let go.

    Attributes:
        newest_ns: The largest stamp so far; the watermark lies `REORDER_NS` below it.
        heard_ns: Receive time of the last message, whatever became of it.
        waiting: The current tick cannot be decided before this stream goes on.
        used, unused, late, duplicate: What became of the samples that were let go.
    """

    __slots__ = (
        "_buffer",
        "_gone",
        "_last_index",
        "_none",
        "_over",
        "duplicate",
        "heard_ns",
        "late",
        "newest_ns",
        "stream",
        "unused",
        "used",
        "waiting",
    )

    def __init__(self, stream: SyncStream) -> None:
        self.stream = stream
        self.newest_ns = NEVER
        self.heard_ns = NEVER
        self.waiting = True
        self.used = 0
        self.unused = 0
        self.late = 0
        self.duplicate = 0
        self._buffer: deque[Sample[T]] = deque()
        # Stamps let go lately, for telling a duplicate: the reorder window of a 6 kHz stream.
        self._gone: deque[int] = deque(maxlen=64)
        self._last_index = -1
        self._over = False
        self._none: dict[Reason, Pick[T]] = {
            reason: Pick(-1, 0, 0, 0, reason, False, None)
            for reason in (Reason.START, Reason.ABSENT)
        }

    def __len__(self) -> int:
        """Samples held."""
        return len(self._buffer)

    def put(self, stamp_ns: int, recv_ns: int, index: int, payload: T, left_ns: int) -> bool:
        """Take in a sample; False when it was late or a duplicate, and counted as that.

        Late is what lies `REORDER_NS` or more behind the newest; a duplicate has the stamp of an
        earlier sample that is less far behind. What comes out of order in between is sorted in.

        Args:
            left_ns: Time of the last tick that has left.
        """
        newest = self.newest_ns
        if stamp_ns > newest:
            self.newest_ns = stamp_ns
            self._buffer.append(Sample(stamp_ns, recv_ns, index, payload, stamp_ns <= left_ns))
            return True
        if stamp_ns == newest:
            self.duplicate += 1
            return False
        if stamp_ns <= newest - REORDER_NS:
            self.late += 1
            return False
        place = len(self._buffer)
        while place and self._buffer[place - 1].stamp_ns > stamp_ns:
            place -= 1
        held = place and self._buffer[place - 1].stamp_ns == stamp_ns
        if held or stamp_ns in self._gone:
            self.duplicate += 1
            return False
        sample = Sample(stamp_ns, recv_ns, index, payload, stamp_ns <= left_ns)
        self._buffer.insert(place, sample)
        return True

    def set_aside(self, *, behind: bool) -> None:
        """Count a sample whose stamp could not be believed: late if it lay in the past."""
        if behind:
            self.late += 1
        else:
            self.unused += 1

    def settled(self, tick_ns: int) -> bool:
        """Whether no sample that may still come could change what `tick_ns` takes."""
        if self._over:
            return True
        if self.newest_ns < tick_ns:
            return False
        before, after = self._around(tick_ns)
        if before is not None and before.stamp_ns == tick_ns:
            return True
        # The lowest stamp that may still come: `put` refuses the ones below as late.
        lowest = self.newest_ns - REORDER_NS + 1
        if lowest <= tick_ns or self.stream.policy is SyncPolicy.HOLD:
            return lowest > tick_ns
        assert after is not None  # the newest lies after the tick
        if self.stream.policy is SyncPolicy.NEAREST and before is not None:
            nearest = min(tick_ns - before.stamp_ns, after.stamp_ns - tick_ns)
            return lowest - tick_ns >= nearest
        return lowest >= after.stamp_ns

    def pick(self, tick_ns: int, left_ns: int) -> Pick[T]:
        """What this stream contributes to the tick, which leaves at receive time `left_ns`.

        A pick that is not valid still carries the newest sample that the policy allows: the one
        before the tick, for `hold`; with its true skew.
        """
        before, after = self._around(tick_ns)
        policy = self.stream.policy
        other: Sample[T] | None = None
        if policy is SyncPolicy.HOLD:
            chosen = before
        elif before is None:
            chosen = after
        elif after is None:
            chosen = before
        elif policy is SyncPolicy.NEAREST:
            earlier = tick_ns - before.stamp_ns <= after.stamp_ns - tick_ns
            chosen = before if earlier else after
        elif policy is SyncPolicy.NEXT:
            chosen = before if before.stamp_ns == tick_ns else after
        else:
            chosen = before
            other = before if before.stamp_ns == tick_ns else after
        if chosen is None:
            self._last_index = -1
            silent = self.heard_ns == NEVER and not self.stream.required
            return self._none[Reason.ABSENT if silent else Reason.START]
        skew = chosen.stamp_ns - tick_ns
        tolerance = self.stream.tolerance_ns
        good = -tolerance <= skew <= tolerance
        weight = 0.0
        if policy is SyncPolicy.NEXT:
            good = good and skew >= 0
        elif policy is SyncPolicy.LINEAR:
            if skew == 0:
                other = chosen
            elif other is None:
                good = False
            else:
                good = good and other.stamp_ns - tick_ns <= tolerance
                weight = -skew / (other.stamp_ns - chosen.stamp_ns)
                self._serve(other)
        reason = Reason.OK if good else self._reason(before, tick_ns, left_ns)
        reused = chosen.index == self._last_index
        self._last_index = chosen.index
        self._serve(chosen)
        return Pick(
            chosen.index,
            chosen.stamp_ns,
            skew,
            left_ns - chosen.recv_ns,
            reason,
            reused,
            chosen.payload,
            None if other is None else other.payload,
            weight,
        )

    def bounds(self, tick_ns: int) -> tuple[int | None, int | None]:
        """Stamps of the newest sample at or before the tick and of the first one after it."""
        before, after = self._around(tick_ns)
        return (
            None if before is None else before.stamp_ns,
            None if after is None else after.stamp_ns,
        )

    def end(self) -> None:
        """No more samples will come: every tick is settled."""
        self._over = True

    def clear(self) -> None:
        """Let go of everything that is still held, and count it."""
        while self._buffer:
            self._let_go()

    def _around(self, tick_ns: int) -> tuple[Sample[T] | None, Sample[T] | None]:
        buffer = self._buffer
        while len(buffer) > 1 and buffer[1].stamp_ns <= tick_ns:
            self._let_go()
        if not buffer:
            return None, None
        first = buffer[0]
        if first.stamp_ns > tick_ns:
            return None, first
        return first, buffer[1] if len(buffer) > 1 else None

    def _let_go(self) -> None:
        sample = self._buffer.popleft()
        self._gone.append(sample.stamp_ns)
        if not sample.used:
            if sample.late:
                self.late += 1
            else:
                self.unused += 1

    def _serve(self, sample: Sample[T]) -> None:
        if not sample.used:
            sample.used = True
            self.used += 1

    def _reason(self, before: Sample[T] | None, tick_ns: int, left_ns: int) -> Reason:
        """Why the pick is not valid, as far as it can be known when the tick leaves."""
        if before is None:
            return Reason.START
        if self.newest_ns >= tick_ns:
            return Reason.GAP
        # It has nothing at the tick yet. Messages still come in: they are behind. None has come
        # for two tolerances: it is silent.
        silent = left_ns - self.heard_ns > 2 * self.stream.tolerance_ns
        return Reason.DEAD if self._over or silent else Reason.LATE
