"""The highest rate of frames of 8 bytes that reaches a subscriber through a broker without the loss
of one.

The rate is ramped up by half until frames are lost, then narrowed down to a seventh by bisection;
each try sends for 1.5 seconds at a constant rate. A rate counts as carried when every frame
arrived, 99 of 100 within half a second of their capture (else a queue was filling that only the end
of the try kept from overflowing), in one of two tries, or of five on a CAN link: emulated machines
stand still at times. Broker, subscriber and sender share the machine's processors with what is
measured. Of one worker a host reads 8 MiB a second for longer than a second, 349,000 packed
frames/s, however fast it is: the rest is for its other devices.
"""

from __future__ import annotations

import math

from tests.bench.harness import Context
from tests.bench.report import Row, number
from tests.bench.rig import Pool, Subject, Trial, ours, peer

TITLE = "Rate without loss"
SECONDS = 1.5
RAMP = 1.5
NARROW = 1.15
MAX_P99_MS = 500.0
TRIES, TRIES_ON_A_LINK = 2, 5


def run(context: Context) -> list[Row]:
    """Ours, the bare batcher and the usual way in turn; the batcher in C and the usual way at QoS 0
    for report."""
    us, bare = ours(can=context.can), peer("bare_batcher")
    usual, loose, limit = peer("usual_way", 1), peer("usual_way", 0), peer("batcher")
    guess = {
        us.name: 20_000.0,
        bare.name: 20_000.0,
        usual.name: 800.0,
        loose.name: 4_000.0,
        limit.name: 40_000.0,
    }
    found: dict[str, list[float]] = {name: [] for name in guess}
    with Pool(context) as pool:
        for turn in range(context.repetitions):
            for subject in (us, bare, usual, *((loose, limit) if turn == 0 else ())):
                rate = highest(context, pool, subject, guess[subject.name])
                context.say(f"{subject.name}: {number(rate)} frames/s")
                found[subject.name].append(rate)
                if context.can:
                    pool.renew(subject)  # it would read the frames of the others from the same link
                guess[subject.name] = max(rate / RAMP, guess[subject.name])
    least = 24.0 if context.can else 20.0
    rates = found[us.name]
    return [
        Row("rate without loss", "frames/s", rates, found[usual.name], usual.name, at_least=least),
        Row("rate without loss", "frames/s", rates, found[bare.name], bare.name, at_least=0.7),
        Row("rate without loss", "frames/s", rates, found[loose.name], loose.name),
        Row("rate without loss", "frames/s", rates, found[limit.name], limit.name),
        *([Row("rate without loss", "frames/s", rates, at_least=24_000.0)] if context.can else []),
    ]


def highest(context: Context, pool: Pool, subject: Subject, start: float) -> float:
    """The highest rate that `subject` carries, sought from `start`."""
    if context.quick:
        return _try(pool, subject, 500.0, 0.3).rate
    low, high = 0.0, math.inf
    rate = start
    while high / max(low, 1e-9) > NARROW:
        for _ in range(TRIES_ON_A_LINK if context.can else TRIES):
            trial = _try(pool, subject, rate, SECONDS)
            if keeps_up(trial):
                break
        if keeps_up(trial) and trial.rate > 0.9 * rate:
            low = rate
        elif keeps_up(trial):
            return trial.rate  # more than that the sender cannot do
        else:
            high = rate
        rate = low * RAMP if math.isinf(high) else math.sqrt(low * high) if low else high / RAMP
        if rate < 10.0:
            return 0.0
    return low


def keeps_up(trial: Trial) -> bool:
    """Whether nothing was lost and no queue was filling."""
    return trial.carried and trial.p99 <= MAX_P99_MS


def _try(pool: Pool, subject: Subject, rate: float, seconds: float) -> Trial:
    trial = pool.rig(subject).trial(rate, seconds)
    if not trial.in_time:
        pool.renew(subject)  # its queues are full of frames of the past
    return trial
