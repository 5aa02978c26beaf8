"""What happened during a capture, in sentences for people: each once, with how often."""

from __future__ import annotations

from threading import Lock

MAX_SENTENCES = 200


class Notes:
    """Sentences in the order in which each was first true. From any thread; bounded."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._more = 0
        self._lock = Lock()

    def add(self, sentence: str) -> None:
        """Note `sentence`; the same one again is counted.

        It may hold what others sent: what would control a terminal is shown as "?".
        """
        sentence = "".join(c if c.isprintable() else "?" for c in sentence)
        with self._lock:
            if sentence in self._counts or len(self._counts) < MAX_SENTENCES:
                self._counts[sentence] = self._counts.get(sentence, 0) + 1
            else:
                self._more += 1

    def sentences(self) -> tuple[str, ...]:
        """What was noted so far."""
        with self._lock:
            told = [f"{s} ({n} times)" if n > 1 else s for s, n in self._counts.items()]
            return (*told, f"and {self._more} more notes") if self._more else tuple(told)
