"""Frames at three times the rate that is carried without loss, while a client asks for `status` without a pause.

The sender has a processor to itself, as it would be held up by what it is to overload; the rest shares the others.
The rate that is carried is sought first. Each repetition has a fresh driver host. After a sentinel frame every frame
that was sent must have been received or be counted as dropped, to the last one, and no command may have waited long.
"""

from __future__ import annotations

import threading
import time
from collections import Counter

from tests.bench.asking import Asker
from tests.bench.harness import Context, percentile
from tests.bench.rate import highest
from tests.bench.report import Row, number
from tests.bench.rig import Pool, Rig, Trial, ours, running

TITLE = "Overload"
TIMES = 3.0
SECONDS = 4.0
PAUSE_S = 0.01


def run(context: Context) -> list[Row]:
    """Each format of ours; there is no peer that counts."""
    with context.split() as split:
        return [row for form in ("bin", "json") for row in _overload(split, form)]


def _overload(context: Context, form: str) -> list[Row]:
    subject = ours(form, can=context.can)
    with Pool(context) as pool:
        rate = TIMES * highest(context, pool, subject, 20_000.0 if form == "bin" else 4_000.0)
    trials: list[Trial] = []
    waits: list[list[float]] = []
    for _ in range(context.repetitions):
        with running(context, subject) as rig, Commander(rig) as commander:
            trials.append(rig.trial(rate, 0.5 if context.quick else SECONDS, settle=True))
        waits.append(sorted(commander.waits))
    lost: Counter[str] = Counter()
    for trial in trials:
        lost.update(trial.dropped)
    counted = [trial.sent - trial.received - sum(trial.dropped.values()) for trial in trials]
    share = sum(trial.received for trial in trials) / sum(trial.sent for trial in trials)
    causes = ", ".join(f"{count:,} by {cause}" for cause, count in lost.items()) or "none"
    asked = sum(len(times) for times in waits)
    return [
        Row(
            f"{form}: command round trip p99 at {number(rate)} frames/s", "ms", [percentile(t, 0.99) for t in waits],
            at_most=100.0, note=f"{asked:,} commands, the slowest {max(t[-1] for t in waits):.1f} ms",
        ),
        Row(f"{form}: command round trip p50 at {number(rate)} frames/s", "ms", [percentile(t, 0.5) for t in waits]),
        Row(
            f"{form}: frames sent, not received and not counted as dropped", "frames", counted, at_least=0, at_most=0,
            note=f"sent at {number(trials[-1].rate)}/s; {share:.0%} arrived; dropped: {causes}; "
            f"gaps in the numbers: {sum(trial.missing for trial in trials):,} frames",
        ),
    ]  # fmt: skip


class Commander:
    """Asks for `status`, one command after the other, until it is closed; `waits` in milliseconds."""

    def __init__(self, rig: Rig) -> None:
        self.waits: list[float] = []
        self._topic = rig.subject.topic.rsplit("/stream/")[0] + "/cmd/status"
        self._asker = Asker(rig.port, "bench-commander")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commander")

    def __enter__(self) -> Commander:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._asker.__exit__()

    def _run(self) -> None:
        while not self._stop.wait(PAUSE_S):
            asked = time.perf_counter()
            self._asker.ask(self._topic, {})
            self.waits.append((time.perf_counter() - asked) * 1e3)
