"""What the operator sees of a session, put together from what it is doing."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

from act_data.record.episode import Episode
from act_data.record.operator import Operator, Phase, State, TopicState
from act_data.record.watch import Rates
from act_data.sources.live import Inbox, LiveSource


class Screen:
    """Shows a session to its operator.

    Attributes:
        saved: Episodes kept so far.
        required: Topics that the robot cannot do without.
    """

    def __init__(
        self,
        operator: Operator,
        inbox: Inbox,
        backend: str,
        *,
        wanted: int | None,
        max_timesteps: int | None,
    ) -> None:
        self.saved = 0
        self.required: frozenset[str] = frozenset()
        self._operator = operator
        self._inbox = inbox
        self._backend = backend
        self._wanted = wanted
        self._max_timesteps = max_timesteps
        self._phase = Phase.WAITING
        self._since = monotonic()
        self._rates = Rates()
        self._fps = Rates()

    def begin(self, phase: Phase) -> None:
        """A new phase begins."""
        self._phase = phase
        self._since = monotonic()
        self._rates, self._fps = Rates(), Rates()

    @property
    def seconds(self) -> float:
        """Since the phase began."""
        return monotonic() - self._since

    def idle(
        self,
        source: LiveSource | None = None,
        *,
        missing: tuple[str, ...] = (),
        countdown_s: float | None = None,
    ) -> None:
        """Show that nothing is recorded, and what is waited for."""
        self._operator.show(
            State(
                phase=self._phase,
                backend=self._backend,
                saved=self.saved,
                wanted=self._wanted,
                missing=missing,
                countdown_s=countdown_s,
                seconds=self.seconds,
                topics=self._topics(source) if source else (),
                max_timesteps=self._max_timesteps,
                waiting_bytes=self._inbox.waiting_bytes,
            )
        )

    def episode(self, episode: Episode) -> None:
        """Show an episode, while it is recorded or after it has ended."""
        watch = episode.watch
        self._operator.show(
            State(
                phase=self._phase,
                backend=self._backend,
                episode=episode.target.stem,
                saved=self.saved,
                wanted=self._wanted,
                seconds=episode.seconds,
                ticks=watch.ticks,
                valid=watch.valid,
                steps=watch.steps,
                max_timesteps=self._max_timesteps,
                fps=self._fps.of({"ticks": watch.ticks})["ticks"],
                worst_skew_ms=watch.worst_skew_ms,
                worst_stream=watch.worst_stream,
                topics=self._topics(episode.source),
                bytes=episode.size,
                waiting_bytes=self._inbox.waiting_bytes,
            )
        )

    def _topics(self, source: LiveSource) -> tuple[TopicState, ...]:
        counts: Mapping[str, int] = source.counts + source.left_out
        counts = {**dict.fromkeys(source.topics, 0), **counts}
        rates, lost = self._rates.of(counts), source.lost
        return tuple(
            TopicState(
                topic=topic,
                count=count,
                rate_hz=rates[topic],
                lost=lost[topic],
                required=topic in self.required,
            )
            for topic, count in sorted(counts.items())
        )
