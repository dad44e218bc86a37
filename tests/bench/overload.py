"""Frames at three times the rate that ours takes, while a client asks for `status` again and again.

What ours takes is what arrives when it is flooded. The sender has a processor to itself, as it
would be held up by what it is to overload; the rest shares the others. Each repetition has a fresh
driver host. After a sentinel frame every frame that was sent must have been received or be counted
as dropped, to the last one, and no command that was asked while frames were sent may have waited
long.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from statistics import median

from tests.bench.asking import Asker
from tests.bench.harness import Context, percentile
from tests.bench.report import Row, number
from tests.bench.rig import Rig, Subject, Trial, ours, running

TITLE = "Overload"
TIMES = 3.0
SECONDS = 4.0
FLOOD = 1_000_000.0
PAUSE_S = 0.01


def run(context: Context) -> list[Row]:
    """Each format of ours; there is no peer that counts."""
    with context.split() as split:
        return [row for form in ("bin", "json") for row in _overload(split, form)]


def _overload(context: Context, form: str) -> list[Row]:
    subject = ours(form, can=context.can)
    takes = _capacity(context, subject)
    rate = TIMES * takes
    trials: list[Trial] = []
    waits: list[list[float]] = []
    for _ in range(context.repetitions):
        with running(context, subject) as rig, Commander(rig) as commander:
            trials.append(rig.trial(rate, 0.5 if context.quick else SECONDS, settle=True))
        begun, ended = trials[-1].span
        waits.append(sorted(wait for asked, wait in commander.waits if begun <= asked <= ended))
    lost: Counter[str] = Counter()
    for trial in trials:
        lost.update(trial.dropped)
    counted = [trial.sent - trial.received - sum(trial.dropped.values()) for trial in trials]
    share = sum(trial.received for trial in trials) / sum(trial.sent for trial in trials)
    causes = ", ".join(f"{count:,} by {cause}" for cause, count in lost.items()) or "none"
    asked = sum(len(times) for times in waits)
    return [
        Row(
            f"{form}: frames sent, times what it takes", "x", [trial.rate / takes for trial in trials],
            at_least=0.9 * TIMES, note="less is no overload: the sender did not get the processor it needs",
        ),
        Row(
            f"{form}: command round trip p99", "ms", [percentile(t, 0.99) for t in waits], at_most=100.0,
            note=f"{asked:,} commands, the slowest {max(t[-1] for t in waits if t):.1f} ms",
        ),
        Row(f"{form}: command round trip p50", "ms", [percentile(t, 0.5) for t in waits]),
        Row(
            f"{form}: frames sent, not received and not counted as dropped", "frames", counted, at_least=0, at_most=0,
            note=f"takes {number(takes)}/s, sent at {number(median(t.rate for t in trials))}/s, {share:.0%} arrived; "
            f"dropped: {causes}; missing by the numbers: {sum(trial.missing for trial in trials):,}",
        ),
    ]  # fmt: skip


def _capacity(context: Context, subject: Subject) -> float:
    """The frames per second that arrive in a flood."""
    with running(context, subject) as rig:
        trial = rig.trial(*((2_000.0, 0.5) if context.quick else (FLOOD, SECONDS)), settle=True)
    begun, ended = trial.span
    return trial.received / (ended - begun)


class Commander:
    """Asks for `status`, one command after the other, until it is closed.

    `waits` are pairs: when it was asked by `time.perf_counter`, and how long the answer took in
        milliseconds.
    """

    def __init__(self, rig: Rig) -> None:
        self.waits: list[tuple[float, float]] = []
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
            self.waits.append((asked, (time.perf_counter() - asked) * 1e3))
