"""What a host wants retained under its own topics, and how the broker is brought to hold just that.

The host sees its own retained topics. What differs from what it wants is published again, what it
does not want is cleared: so an old will, a wiped broker and another's correction all come right by
themselves. PURE but for the publish callback; the caller says when to settle.
"""

from __future__ import annotations

from collections.abc import Callable

Publish = Callable[[str, bytes], None]


class RetainedTopics:
    """The wanted payload of each retained topic, and what the broker was last seen to hold.

    Args:
        publish: puts a retained payload on the bus; empty clears the topic.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._wanted: dict[str, bytes] = {}
        self._seen: dict[str, bytes] = {}
        self._doubtful: set[str] = set()

    def want(self, topic: str, payload: bytes) -> None:
        """Publish `payload` and hold to it."""
        self._wanted[topic] = payload
        self._publish(topic, payload)

    def drop(self, topic: str) -> None:
        """Clear `topic`."""
        self._wanted.pop(topic, None)
        self._publish(topic, b"")

    def see(self, topic: str, payload: bytes) -> bool:
        """Take note of what the broker passed on. Whether it needs a look: own messages come back
        late, so a difference counts only when it still stands at the next `settle`."""
        if payload:
            self._seen[topic] = payload
        else:
            self._seen.pop(topic, None)
        if payload == self._wanted.get(topic, b""):
            self._doubtful.discard(topic)
            return False
        self._doubtful.add(topic)
        return True

    def settle(self, *, clear_unknown: bool) -> int:
        """Mend every topic in doubt; returns how many. `clear_unknown`: also clear topics nobody
        wants, which is right only once the host knows all it has."""
        mended = 0
        for topic in sorted(self._doubtful):
            wanted = self._wanted.get(topic, b"")
            if self._seen.get(topic, b"") == wanted:
                self._doubtful.discard(topic)
            elif wanted or clear_unknown:
                self._doubtful.discard(topic)
                self._publish(topic, wanted)
                mended += 1
        return mended

    def republish(self) -> None:
        """Publish everything again: the broker may have lost it."""
        for topic, payload in self._wanted.items():
            self._publish(topic, payload)
