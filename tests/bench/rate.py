"""The highest rate of frames of 8 bytes that reaches a subscriber through a broker without the loss of one.

The rate is ramped up by half until frames are lost, then narrowed down to a tenth by bisection; each try sends for two
seconds at a constant rate. A rate counts as carried when every frame arrived, 99 of 100 within half a second of their
capture (else a queue was filling that only the end of the try kept from overflowing), in one of two tries. Broker,
subscriber and sender share the machine's processors with what is measured.
"""

from __future__ import annotations

import math

from tests.bench.harness import Context
from tests.bench.report import Row, number
from tests.bench.rig import Pool, Subject, Trial, ours, peer

TITLE = "Rate without loss"
SECONDS = 2.0
RAMP = 1.5
NARROW = 1.1
MAX_P99_MS = 500.0


def run(context: Context) -> list[Row]:
    """Ours, the bare batcher and the usual way in turn; the batcher in C and the usual way at QoS 0 for report."""
    us, bare = ours(can=context.can), peer("bare_batcher")
    usual = {qos: peer("usual_way", qos) for qos in (1, 0)}
    subjects = (us, bare, usual[1], usual[0], peer("batcher"))
    guess = {us.name: 20_000.0, bare.name: 20_000.0, usual[1].name: 500.0, usual[0].name: 1_000.0}
    found: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    with Pool(context) as pool:
        for _ in range(context.repetitions):
            for subject in subjects:
                rate = highest(context, pool, subject, guess.get(subject.name, 40_000.0))
                context.say(f"{subject.name}: {number(rate)} frames/s")
                found[subject.name].append(rate)
                guess[subject.name] = rate / RAMP
    least = 24.0 if context.can else 20.0
    rates = found[us.name]
    return [
        Row("rate without loss", "frames/s", rates, found[usual[1].name], usual[1].name, at_least=least),
        Row("rate without loss", "frames/s", rates, found[bare.name], bare.name, at_least=0.7),
        Row("rate without loss", "frames/s", rates, found[usual[0].name], usual[0].name),
        Row("rate without loss", "frames/s", rates, found["batcher in C"], "batcher in C"),
        *([Row("rate without loss", "frames/s", rates, at_least=24_000.0)] if context.can else []),
    ]


def highest(context: Context, pool: Pool, subject: Subject, start: float) -> float:
    """The highest rate that `subject` carries, sought from `start`."""
    if context.quick:
        return _try(pool, subject, 500.0, 0.3).rate
    low, high = 0.0, math.inf
    rate = start
    while high / max(low, 1e-9) > NARROW:
        trial = _try(pool, subject, rate, SECONDS)
        if not keeps_up(trial):
            pool.renew(subject)
            trial = _try(pool, subject, rate, SECONDS)
        if keeps_up(trial) and trial.rate > 0.9 * rate:
            low = rate
        elif keeps_up(trial):
            return trial.rate  # more than that the sender cannot do
        else:
            high = rate
            pool.renew(subject)
        rate = low * RAMP if math.isinf(high) else math.sqrt(low * high) if low else high / RAMP
        if rate < 10.0:
            return 0.0
    return low


def keeps_up(trial: Trial) -> bool:
    """Whether nothing was lost and no queue was filling."""
    return trial.carried and trial.p99 <= MAX_P99_MS


def _try(pool: Pool, subject: Subject, rate: float, seconds: float) -> Trial:
    return pool.rig(subject).trial(rate, seconds)
