"""What a server counts, as Prometheus reads it (text format 0.0.4) and as its report says it."""

from __future__ import annotations

from collections import Counter

OUTCOMES = ("done", "expired", "superseded", "refused", "busy", "failed")
_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """Counters since the start; a few hundred bytes, however long it runs.

    Attributes:
        connections: Sessions that are open.
        accepted: Sessions since the start.
        turned_away: Connections without a session: too many, or without the token.
        malformed: Messages that could not be read.
        outcomes: Of requests, by name.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.accepted = 0
        self.turned_away = 0
        self.malformed = 0
        self.outcomes: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self._buckets = [0] * len(_BUCKETS_S)
        self._seconds = 0.0
        self._predictions = 0

    def predicted(self, infer_ms: float) -> None:
        """One prediction was made."""
        seconds = infer_ms / 1e3
        self._predictions += 1
        self._seconds += seconds
        for i, limit in enumerate(_BUCKETS_S):
            self._buckets[i] += seconds <= limit

    @property
    def mean_infer_ms(self) -> float | None:
        """None before the first prediction."""
        return self._seconds / self._predictions * 1e3 if self._predictions else None

    def text(self) -> str:
        """All of it, for Prometheus."""
        name = "act_serve"
        lines = [
            f"# TYPE {name}_connections gauge",
            f"{name}_connections {self.connections}",
            f"# TYPE {name}_sessions_total counter",
            f"{name}_sessions_total {self.accepted}",
            f"# TYPE {name}_turned_away_total counter",
            f"{name}_turned_away_total {self.turned_away}",
            f"# TYPE {name}_malformed_messages_total counter",
            f"{name}_malformed_messages_total {self.malformed}",
            f"# TYPE {name}_requests_total counter",
            *(f'{name}_requests_total{{outcome="{o}"}} {n}' for o, n in self.outcomes.items()),
            f"# TYPE {name}_inference_seconds histogram",
            *(
                f'{name}_inference_seconds_bucket{{le="{limit}"}} {count}'
                for limit, count in zip(_BUCKETS_S, self._buckets, strict=True)
            ),
            f'{name}_inference_seconds_bucket{{le="+Inf"}} {self._predictions}',
            f"{name}_inference_seconds_sum {self._seconds:.6f}",
            f"{name}_inference_seconds_count {self._predictions}",
        ]
        return "\n".join(lines) + "\n"
