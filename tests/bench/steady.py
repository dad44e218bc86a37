"""What a frame costs and how long it takes at rates that are carried: 1,000, 8,000 and 16,000
frames/s.

8,000 frames/s is a saturated bus of 1 Mbit/s. CPU is user and system time of whole process trees by
/proc, the driver host with its workers, for each frame that arrived. The usual way does not carry
8,000/s: its frames cost least at a rate that it carries, so it is measured at 2,000/s. The
subscriber keeps what comes and decodes nothing while it is measured, which favours the peer with a
message for each frame. Latency is from the kernel's capture stamp to the subscriber's callback, in
windows of 10 ms: for how long a batch gathers frames.
"""

from __future__ import annotations

from statistics import median

from tests.bench.harness import Context
from tests.bench.report import Row, number
from tests.bench.rig import Pool, Subject, Trial, ours, peer

TITLE = "CPU and latency at a steady rate"
RATES = (1_000, 8_000, 16_000)
FULL_BUS = 8_000
USUAL = 2_000  # what the usual way still carries on most machines
WINDOW_MS = 10.0
SECONDS = 3.0


def run(context: Context) -> list[Row]:
    """Ours and the bare batcher at all rates, the usual way at that of a full bus."""
    us, bare, usual = ours(can=context.can), peer("bare_batcher"), peer("usual_way")
    trials: dict[tuple[str, int], list[Trial]] = {}
    with Pool(context) as pool:
        for _ in range(context.repetitions):
            for rate in RATES:
                for subject, at in [
                    (us, rate),
                    (bare, rate),
                    *([(usual, USUAL)] if rate == FULL_BUS else []),
                ]:
                    trial = _trial(context, pool, subject, at)
                    trials.setdefault((subject.name, rate), []).append(trial)
    latencies = [
        row
        for rate in RATES
        for row in _latency(rate, trials[us.name, rate], trials[bare.name, rate])
    ]
    full, beside, slow = (trials[subject.name, FULL_BUS] for subject in (us, bare, usual))
    cost = f"at {FULL_BUS:,} frames/s"
    return [
        Row(
            f"CPU per frame {cost}, host, broker and subscriber", "us", [t.cpu_us() for t in full],
            [t.cpu_us() for t in slow], usual.name, at_most=0.1,
            note=f"the usual way at {USUAL:,} frames/s, of which {_arrived(slow)} arrived; of ours {_arrived(full)}",
        ),
        Row(
            f"CPU per frame {cost}, driver host with its workers", "us", [t.cpu_us("subject") for t in full],
            [t.cpu_us("subject") for t in beside], bare.name, at_most=1.25,
        ),
        Row(
            f"CPU per frame {cost}, host, broker and subscriber", "us", [t.cpu_us() for t in full],
            [t.cpu_us() for t in beside], bare.name,
        ),
        *latencies,
    ]  # fmt: skip


def _trial(context: Context, pool: Pool, subject: Subject, rate: int) -> Trial:
    trial = pool.rig(subject).trial(rate, 0.3 if context.quick else SECONDS)
    context.say(
        f"{subject.name} at {rate:,}/s: p50 {trial.p50:.1f} ms, {trial.cpu_us():.1f} us a frame"
    )
    if not trial.carried:
        pool.renew(subject)
    return trial


def _latency(rate: int, ours: list[Trial], bare: list[Trial]) -> list[Row]:
    def row(what: str, mine: list[float], theirs: list[float], at_most: float) -> Row:
        note = f"bare batcher: {number(median(theirs))}"
        return Row(
            f"latency {what} at {rate:,} frames/s", "windows", mine, at_most=at_most, note=note
        )

    return [
        row("p50", [t.p50 / WINDOW_MS for t in ours], [t.p50 / WINDOW_MS for t in bare], 0.8),
        row("p99", [t.p99 / WINDOW_MS for t in ours], [t.p99 / WINDOW_MS for t in bare], 1.5),
    ]


def _arrived(trials: list[Trial]) -> str:
    return f"{median(trial.received / trial.sent for trial in trials):.0%}"
