"""Memory of the driver host with its workers over minutes at four fifths of the highest rate it
carries.

Resident memory is looked at after every ten seconds of frames; the growth is that of the last
quarter of the looks over the second one, as caches fill in the first. Run with `--soak MINUTES`.
"""

from __future__ import annotations

import time
from statistics import median

from tests.bench.harness import Context, memory_kb
from tests.bench.rate import highest
from tests.bench.report import Row, number
from tests.bench.rig import Pool, Trial, ours

TITLE = "Memory at full rate"
LEG_S = 10.0


def run(context: Context) -> list[Row]:
    """Nothing, unless minutes were given."""
    if not context.soak:
        return []
    subject = ours(can=context.can)
    memory: list[float] = []
    trials: list[Trial] = []
    with Pool(context) as pool:
        rate = 0.8 * highest(context, pool, subject, 20_000.0)
        pool.renew(subject)
        rig = pool.rig(subject)
        end = time.monotonic() + context.soak * 60.0
        while time.monotonic() < end or len(memory) < 4:
            trials.append(rig.trial(rate, LEG_S, settle=True))
            memory.append(memory_kb(rig.program.pid) / 1024)
            context.say(
                f"{number(memory[-1])} MiB after {sum(trial.sent for trial in trials):,} frames"
            )
    quarter = len(memory) // 4
    growth = median(memory[-quarter:]) / median(memory[quarter : 2 * quarter]) - 1.0
    sent, received = (sum(getattr(trial, key) for trial in trials) for key in ("sent", "received"))
    dropped = sum(sum(trial.dropped.values()) for trial in trials)
    note = f"{context.soak:.0f} minutes at {number(rate)}/s: {sent:,} sent, {received:,} received, {dropped:,} dropped"
    return [
        Row("growth of resident memory", "%", [growth * 100.0], at_most=2.0, note=note),
        Row("resident memory", "MiB", memory),
        Row(
            "frames sent, not received and not counted as dropped",
            "frames",
            [sent - received - dropped],
            at_most=0,
        ),
    ]
