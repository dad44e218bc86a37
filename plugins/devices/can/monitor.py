"""Watches the health of one CAN link of the kernel, on a thread of its own, whether or not its
frames are read.

It looks at the link once a second, and at once when netlink tells of a change or an error frame
comes in; those it takes from a socket that gets nothing else. What that means is `health`'s to say.
"""

from __future__ import annotations

import errno
import logging
import random
import select
import socket
import threading
import time
from contextlib import ExitStack
from typing import Any, Final, Protocol

from plugins.devices.can.health import BusHealth, Policy, read_error_frame
from plugins.devices.can.hotplug import watch_links
from plugins.devices.can.links import CanLink, LinkQuery, restart_controller
from plugins.devices.can.load import FrameKinds, Load, Mix, bus_load
from plugins.devices.netlink_watch import NetlinkWatch

logger = logging.getLogger(__name__)

LOOK_S: Final = 1.0
CLOSE_S: Final = 6.0  # longer than the kernel is given for a restart
# Between two looks, so that a bus that reports one error after the other costs little.
PACE_S: Final = 0.1
_ERROR_FRAMES: Final = 512  # more than a socket's receive buffer holds
_CAN_RAW_ERR_FILTER: Final = 2
_ALL_ERRORS: Final = 0x1FFF_FFFF
# What a restart may fail with because the controller is no more bus-off.
_OVERTAKEN: Final = frozenset({errno.EBUSY, errno.EINVAL, errno.ENODEV})


class Report(Protocol):
    """`BaseDeviceDriver.report_event`."""

    def __call__(self, event: str, /, **fields: Any) -> None: ...


class LinkMonitor:
    """The monitor of `link`, from now until it is closed.

    `kinds` are sums of the frames that are read, where any are; `report` is called on the monitor's
    thread.
    """

    def __init__(
        self, link: CanLink, policy: Policy, kinds: FrameKinds, report: Report, name: str
    ) -> None:
        self._link: CanLink | None = link
        self._name = link.name
        self._index = link.index
        self._health = BusHealth(policy, random.random)
        self._meter = LoadMeter(kinds)
        self._report = report
        self._lock = threading.Lock()  # guards all the above but `_report`
        self._closed = threading.Event()
        self._wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._waker.close()
        self._thread.join(CLOSE_S)

    @property
    def state(self) -> str:
        """The state that the bus was in at the last look."""
        with self._lock:
            return self._health.state

    def describe(self) -> dict[str, Any]:
        """What `status` tells of the health."""
        now, wall = time.monotonic(), time.time()
        with self._lock:
            health, load = self._health, self._meter.load
            off = health.bus_off_at
            return {
                "load": None
                if load is None
                else {"percent": load.percent, "percent_max": load.percent_max},
                "frames_per_s": self._meter.frames_per_s,
                "bus_off": {
                    "count": health.bus_offs,
                    "last": None if off is None else round(wall - (now - off), 3),
                    "recoveries": health.recoveries,
                    "recovery": health.recovery,
                    "attempts": health.attempts,
                    "next_s": None if health.due is None else round(max(0.0, health.due - now), 1),
                    "problem": health.problem,
                },
            }

    def _run(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(self._wake)
            try:
                query = LinkQuery(self._index)
                stack.callback(query.close)
                watch: NetlinkWatch = watch_links()
                stack.callback(watch.close)
                errors = stack.enter_context(_error_socket(self._name))
            except OSError as error:
                logger.warning("the health of %s is not watched: %s", self._name, error)
                return
            poll = select.poll()
            for source in (self._wake, watch, errors):
                poll.register(source, select.POLLIN)
            while not self._closed.is_set():
                self._round(query, errors)
                if self._closed.wait(PACE_S):
                    return
                poll.poll(self._patience() * 1000)
                watch.drain()

    def _patience(self) -> float:
        """Seconds until the next look, unless something comes in."""
        due = self._health.due
        return LOOK_S if due is None else min(LOOK_S, max(0.0, due - time.monotonic()))

    def _round(self, query: LinkQuery, errors: socket.socket) -> None:
        frames = _take(errors)
        try:
            link = query.ask()
        except OSError as error:
            logger.warning("cannot ask the kernel for the link %s: %s", self._name, error)
            link = self._link
        now = time.monotonic()
        with self._lock:
            for frame in frames:
                self._health.saw_error_frame(read_error_frame(frame), now)
            self._link = link
            self._health.saw_link(link, now)
            if link is not None:
                self._meter.look(link, now)
            due = self._health.due is not None and self._health.due <= now
        self._tell_news()
        if due and link is not None:
            self._restart(link)

    def _tell_news(self) -> None:
        with self._lock:
            news = self._health.news()
        if news is not None:
            self._report("bus_state", **news)

    def _restart(self, link: CanLink) -> None:
        problem = _no_restart(link)
        if not problem:
            try:
                restart_controller(link.index)
            except OSError as error:
                if error.errno not in _OVERTAKEN:
                    problem = _why_refused(link, error)
        with self._lock:
            self._health.restart_tried(time.monotonic(), problem)
        if problem:
            self._report("bus_recovery", state="failed", reason=problem)


class LoadMeter:
    """The load of a link over the last second and a bit, from the kernel's sums of what went over
    it."""

    def __init__(self, kinds: FrameKinds) -> None:
        self.load: Load | None = None  # None where the bit rate is not known
        self.frames_per_s: float | None = None
        self._kinds = kinds
        self._known = kinds.copy()
        self._mix: Mix | None = None
        self._before: tuple[float, int, int] | None = None

    def look(self, link: CanLink, now: float) -> None:
        """Measure, once a second has gone since the last time."""
        before = self._before
        if before is None or link.frames < before[1]:
            self._before = (now, link.frames, link.payload)
            return
        seconds = now - before[0]
        if seconds < LOOK_S:
            return
        self._before = (now, link.frames, link.payload)
        self._mix = self._kinds.mix_since(self._known) or self._mix
        self._known = self._kinds.copy()
        frames = link.frames - before[1]
        self.frames_per_s = round(frames / seconds, 1)
        self.load = None
        if link.bitrate is not None:
            payload = max(0, link.payload - before[2])
            self.load = bus_load(
                frames, payload, seconds, link.bitrate, link.data_bitrate, self._mix
            )


def _error_socket(name: str) -> socket.socket:
    """A socket that gets the error frames of a link and nothing else."""
    sock = socket.socket(socket.AF_CAN, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.CAN_RAW)
    try:
        sock.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_FILTER, b"")
        sock.setsockopt(socket.SOL_CAN_RAW, _CAN_RAW_ERR_FILTER, _ALL_ERRORS)
        sock.bind((name,))
    except OSError:
        sock.close()
        raise
    return sock


def _take(errors: socket.socket) -> list[bytes]:
    """The error frames that wait."""
    frames: list[bytes] = []
    for _ in range(_ERROR_FRAMES):
        try:
            frames.append(errors.recv(16, socket.MSG_DONTWAIT))
        except BlockingIOError:
            break
        except (
            OSError
        ):  # once, when the link goes down: the socket stays bound and goes on when it is up again
            continue
    return frames


def _no_restart(link: CanLink) -> str:
    """Why the kernel must not be asked: in many versions that are in use it dies of what the driver
    does not have."""
    if link.restartable:
        return ""
    return f"its driver ({link.driver or link.kind}) has no restart; {_by_hand(link)}"


def _why_refused(link: CanLink, error: OSError) -> str:
    if error.errno == errno.EPERM:
        return f"restarting it needs CAP_NET_ADMIN: as root, `ip link set {link.name} type can restart`"
    return f"the kernel did not restart it: {error.strerror}; {_by_hand(link)}"


def _by_hand(link: CanLink) -> str:
    return f"as root, `ip link set {link.name} down`, then `ip link set {link.name} up`"
