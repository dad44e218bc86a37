"""``python -m tests.bench``: run benchmarks side by side and write the page; see
``scripts/bench``."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
import time
from datetime import UTC, datetime

from tests.bench import harness, report, rig

VM_NAMES = ("rate",)
# The guest sees the tree as /tree, and the programs and results here as /share.
IN_GUEST = (
    "modprobe vcan && ip link add dev vcan0 type vcan && ip link set vcan0 up && cd /tree && "
    "BENCH_CACHE=/share PYTHONDONTWRITEBYTECODE=1 exec python3 -m tests.bench --can vcan0"
)
NAMES = ("rate", "steady", "overload", "soak", "roundtrip", "ingest", "mqttjs", "thingsboard")
DISTRIBUTIONS = ("sat-rack", "paho-mqtt", "python-can")


def main() -> int:
    """Run what was asked for; 1 when a target is missed."""
    known = [name for name in NAMES if importlib.util.find_spec(f"tests.bench.{name}")]
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measure ours beside the peers."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; default: all"
    )
    parser.add_argument(
        "--quick", action="store_true", help="only see that all programs run; no page is written"
    )
    parser.add_argument("--repetitions", type=int, default=3, metavar="N", help="default 3")
    parser.add_argument(
        "--soak",
        type=float,
        default=0.0,
        metavar="MINUTES",
        help="memory at full rate; default: not",
    )
    parser.add_argument(
        "--vm", action="store_true", help=f"on vcan in a virtual machine: {', '.join(VM_NAMES)}"
    )
    parser.add_argument("--can", metavar="LINK", help="measure on this CAN link, such as vcan0")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(known)):
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(known)}")
    repetitions = 1 if options.quick else options.repetitions
    context = harness.Context(options.quick, repetitions, options.can, options.soak)
    harness.CACHE.mkdir(parents=True, exist_ok=True)
    names = options.names or known
    missed = _in_vm(options) if options.vm else [name for name in names if not _run(name, context)]
    if not context.quick and harness.CACHE.is_relative_to(harness.ROOT):
        _write_page()
    if missed and not context.quick:
        context.say(f"targets missed in: {', '.join(missed)}")
    return 1 if missed and not context.quick else 0


def _in_vm(options: argparse.Namespace) -> list[str]:
    """Run the frame path's benchmarks in the machine of scripts/vm; its name where a target was
    missed."""
    for name in ("sender", "batcher"):
        rig.compiled(name)
    wanted = [*(["--quick"] if options.quick else []), "--repetitions", str(options.repetitions)]
    command = " ".join([IN_GUEST, *wanted, *(options.names or VM_NAMES)])
    share = ["--memory", "2048", "--timeout", "1800", "--share", str(harness.CACHE)]
    argv = [str(harness.ROOT / "scripts" / "vm"), "run", *share, "--", "sh", "-c", command]
    return ["the virtual machine"] if subprocess.run(argv, check=False).returncode else []


def _run(name: str, context: harness.Context) -> bool:
    """Run one benchmark and keep its result; whether all its targets are met."""
    module = importlib.import_module(f"tests.bench.{name}")
    context.say(f"{name}: {module.TITLE}")
    started = time.monotonic()
    rows = module.run(context)
    if not rows:
        return True
    result = report.Result(
        name=f"{name}-{context.can}" if context.can else name,
        title=module.TITLE + (f", on {context.can}" if context.can else ""),
        about=module.__doc__ or "",
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        seconds=time.monotonic() - started,
        machine=harness.machine(),
        versions=harness.versions(*DISTRIBUTIONS, *getattr(module, "DISTRIBUTIONS", ())),
        rows=rows,
    )
    sys.stdout.write("\n".join([f"## {result.title}", "", *report.table(rows), ""]))
    sys.stdout.flush()
    if not context.quick:
        report.save(result, harness.CACHE)
    return all(row.met is not False for row in rows)


def _write_page() -> None:
    """The page from the newest result of each benchmark."""
    order = {name: place for place, name in enumerate(NAMES)}
    results = [report.load(path) for path in harness.CACHE.glob("*.json")]
    results.sort(key=lambda result: (order.get(result.name.partition("-")[0], 99), result.name))
    report.write_page(results, harness.ROOT / "docs" / "benchmarks.md")


if __name__ == "__main__":
    sys.exit(main())
