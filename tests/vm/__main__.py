"""`scripts/vm run`: boot the virtual machine, run one command in it, power off."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.vm.machine import Image, Machine, Options, VMError, accelerators


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/vm run",
        description="Boot the virtual machine with this tree's wheel, run one command in it, power off. The tree is "
        "/tree in there, read-only; `sat` and python3 run the wheel, with all that requirements.lock pins.",
    )
    parser.add_argument(
        "--accel", choices=("kvm", "tcg"), help="default: KVM where it works, else TCG (emulation)"
    )
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory", type=int, default=1024, metavar="MB")
    parser.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="S",
        help="the command's, in seconds (%(default)g)",
    )
    parser.add_argument("--systemd", action="store_true", help="with systemd as its first process")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--share", type=Path, metavar="FOLDER", help="/share in there, to read and write"
    )
    where.add_argument(
        "--copy",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a copy is put in /share",
    )
    parser.add_argument(
        "command", nargs="+", metavar="COMMAND", help="-- and the command with its arguments"
    )
    return parser.parse_args()


def _run(arguments: argparse.Namespace, share: Path | None) -> int:
    chosen = [arguments.accel] if arguments.accel else accelerators()
    options = Options(
        memory_mb=arguments.memory,
        cpus=arguments.cpus,
        share=share,
        systemd=arguments.systemd,
        accelerators=chosen,
    )
    with Machine(Image.build(), options) as machine:
        print(f"vm: {machine.accelerator}, booted in {machine.boot_s:.1f} s", file=sys.stderr)  # noqa: T201
        with machine.start(*arguments.command, timeout=arguments.timeout) as process:
            process.end_input()
            while not process.ended:
                process.read(1.0)
                sys.stdout.buffer.write(process.stdout)
                sys.stderr.buffer.write(process.stderr)
                process.stdout = process.stderr = b""
                sys.stdout.flush()
                sys.stderr.flush()
            if process.status is None:
                raise VMError(f"the command was not over after {arguments.timeout:g} s (--timeout)")
            return process.status if process.status >= 0 else 128 - process.status


def main() -> int:
    arguments = _arguments()
    try:
        if not arguments.copy:
            return _run(arguments, arguments.share)
        with tempfile.TemporaryDirectory(prefix="sat-vm-share-") as folder:
            for path in arguments.copy:
                copy = shutil.copytree if path.is_dir() else shutil.copy2
                copy(path, Path(folder) / path.name)
            return _run(arguments, Path(folder))
    except (VMError, OSError) as error:
        print(f"vm: {error}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
