"""The orchestrator on the bus: subscriptions, timers, leadership. The shell around `core` and
`operations`.

Everything runs on the work loop, bus handlers too.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable

import structlog

from sat_bus.contract import messages, topics
from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import OrchestratorState
from sat_bus.contract.topics import Match, Topic, Traffic
from sat_bus.service.loop import Timer, WorkLoop
from sat_bus.service.request_desk import RequestDesk
from sat_bus.service.run import STOOD_DOWN, health
from sat_bus.transport.bus import Bus, Inbound
from sat_orchestrator.bus.host_calls import HostCalls
from sat_orchestrator.bus.publisher import Publisher
from sat_orchestrator.fleet.fleet import LOST_AFTER_S, Fleet
from sat_orchestrator.fleet.leadership import Leadership, Verdict
from sat_orchestrator.requests import Operations
from sat_orchestrator.settings import OrchestratorSettings
from sat_orchestrator.steering import Core
from sat_orchestrator.store.database import Kept
from sat_orchestrator.store.store import Store
from sat_toolkit.errors import SatError

_log = structlog.get_logger(__name__)

NAME = "orchestrator"
QUIET_S = 0.5
QUIET_AT_MOST_S = 5.0
SWEEP_AFTER_S = 5.0
_TICK_S = 0.25
_TURN_S = 1.0
_FLUSH_S = 0.1
_WATCHED = (
    topics.HOST_STATE,
    topics.HOST_BIRTH,
    topics.HOST_HEARTBEAT,
    topics.DEVICE_STATUS,
    topics.DEVICE_META,
    topics.ORCHESTRATOR_STATE,
    topics.TABLE_ROW,
)


class Orchestrator:
    """A `sat_bus.service.run.Service`.

    Args:
        store: open; it is closed with the service.
        kept: what the store has found.
        own: our id, new at each start; it is our boot and our client id too.
        lost_after: seconds without a heartbeat after which a host is lost.
    """

    def __init__(
        self,
        settings: OrchestratorSettings,
        loop: WorkLoop,
        bus: Bus,
        store: Store,
        kept: Kept,
        own: str,
        *,
        lost_after: float = LOST_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.site, self.own = settings.site, own
        self._loop, self._bus, self._store = loop, bus, store
        self._clock = clock
        self._counts: Counter[str] = Counter()
        self._leadership = Leadership(own, kept.epoch)
        fleet = Fleet(
            settings.policy,
            random.random,
            lost_after=lost_after,
            scan_period=settings.scan_period_s,
            recovery_limit=settings.recovery_limit,
        )
        calls = HostCalls(self.site, own, bus, lambda: self._leadership.epoch, clock)
        publisher = Publisher(self.site, bus, fleet, clock, wall)
        self.core = Core(loop, fleet, store, calls, publisher, clock, wall, self._on_epoch)
        self.core.load(kept)
        self._desk = RequestDesk(self.site, NAME, own, bus, clock, own_boot_only=False)
        self._operations = Operations(self.core, self._desk)
        self._connected_at = 0.0
        self._retained_at = 0.0
        self._claiming = False
        self._waiting: Timer | None = None
        self._relics: set[Key] = set()
        self._take: dict[str, Callable[[Inbound, Match, float], None]] = {
            topics.HOST_STATE.name: self._on_host_state,
            topics.HOST_BIRTH.name: self._on_birth,
            topics.HOST_HEARTBEAT.name: self._on_heartbeat,
            topics.DEVICE_STATUS.name: self._on_status,
            topics.DEVICE_META.name: self._on_meta,
            topics.ORCHESTRATOR_STATE.name: self._on_orchestrator,
            topics.TABLE_ROW.name: self._on_row,
            topics.REPLY.name: self._on_reply,
            topics.SET.name: self._operations.handle,
            topics.ORCHESTRATOR_REQUEST.name: self._operations.handle,
        }

    # -- Service -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, and lead as soon as the truth that the broker holds is in."""
        self._bus.deliver_on(self._loop.perform)
        for topic in _WATCHED:
            self._subscribe(topic)
        self._subscribe(topics.REPLY, client=self.own)
        self._bus.on_connection(self._on_connection)
        self._loop.on_gap(lambda gap: self.core.fleet.restart_timers(self._clock()))
        self._loop.every(_TICK_S, self.core.tick)
        self._loop.every(_TURN_S, self._turn)
        self._loop.every(_FLUSH_S, self.core.publisher.flush)
        self._waiting = self._loop.every(_FLUSH_S, self._lead_when_quiet)
        self._bus.start()

    def stop(self) -> None:
        """Say goodbye and leave; devices stay as they are."""
        self._operations.abandon()
        if self.core.leading:
            self._say("offline")
        self._bus.flush(1.0)
        self.core.note_observed()
        self.core.leading = False
        self._bus.close()
        self._store.close()

    # -- leadership --------------------------------------------------------------------------------

    def _lead_when_quiet(self) -> None:
        """Claim the lead when no more retained messages come: what is true must be known before it
        is planned."""
        now = self._clock()
        if self._claiming or not self.core.connected:
            return
        quiet = now - max(self._connected_at, self._retained_at)
        if quiet < QUIET_S and now - self._connected_at < QUIET_AT_MOST_S:
            return
        self._claiming = True
        if self._waiting is not None:
            self._waiting.cancel()
        self._store.save_epoch(
            self._leadership.claim(), lambda failure: self._loop.post(lambda: self._lead(failure))
        )

    def _lead(self, failure: str) -> None:
        if failure:  # births tell the next start which epochs there were
            _log.error("the epoch could not be stored", reason=failure)
        _log.info("leading", site=self.site, epoch=self._leadership.epoch)
        self.core.leading = True
        self.core.fleet.start_over(self._clock())
        self._subscribe(topics.SET)
        self._subscribe(topics.ORCHESTRATOR_REQUEST)
        self._say("ready")
        self._loop.later(SWEEP_AFTER_S, self._sweep_relics)
        self._turn()

    def _on_epoch(self, seen: int | None) -> None:
        """A host has seen epoch `seen`, or (None) refuses ours: go above it."""
        if seen is not None and not self._leadership.saw(seen):
            return
        if self.core.leading:
            epoch = self._leadership.claim()
            _log.warning("taking a higher epoch", epoch=epoch)
            self._store.save_epoch(epoch, lambda failure: None)
            self._say("ready")

    def _say(self, state: str) -> None:
        said = OrchestratorState.model_validate(
            {"state": state, "id": self.own, "epoch": self._leadership.epoch}
        )
        topic = topics.ORCHESTRATOR_STATE.build(self.site)
        self._bus.publish(topic, said.encode(), retain=True, traffic=Traffic.STATE)

    def _on_orchestrator(self, inbound: Inbound, _match: Match, _arrived: float) -> None:
        if not inbound.payload:
            return
        said = OrchestratorState.decode(inbound.payload)
        verdict = self._leadership.judge(said)
        if not self.core.leading:
            return
        if verdict is Verdict.REASSERT:
            self._say("ready")
        elif verdict is Verdict.STAND_DOWN:
            _log.error("another orchestrator leads; this one ends", other=said.id, epoch=said.epoch)
            self.core.leading = False
            self._loop.finish(STOOD_DOWN)

    # -- what comes in -----------------------------------------------------------------------------

    def _subscribe(self, topic: Topic, **levels: str) -> None:
        for subscription in topic.filters(self.site, **levels):
            self._bus.subscribe(subscription, self._on_message, qos=topic.qos)

    def _on_message(self, inbound: Inbound) -> None:
        now = self._clock()
        if inbound.retain:
            self._retained_at = now
        match = topics.parse(self.site, inbound.topic)
        handler = self._take.get(match.topic.name) if match is not None else None
        if match is None or handler is None:
            self._counts["bad_topic"] += 1
            return
        try:
            handler(inbound, match, now - inbound.age)
        except SatError as error:
            self._counts["garbage"] += 1
            _log.debug("garbage", topic=inbound.topic, reason=str(error))

    def _on_connection(self, up: bool) -> None:
        self.core.connected = up
        if not up:
            return
        self._connected_at = self._clock()
        if self.core.leading:
            self._say("ready")
        self.core.reconnected()

    def _on_host_state(self, inbound: Inbound, match: Match, _arrived: float) -> None:
        if inbound.payload:
            said = messages.HostState.decode(inbound.payload)
            name, fleet = match.levels["host"], self.core.fleet
            self.core.apply(fleet.host_state(name, said, self._clock(), retained=inbound.retain))

    def _on_birth(self, inbound: Inbound, match: Match, _arrived: float) -> None:
        if inbound.payload:
            said = messages.Birth.decode(inbound.payload)
            name, fleet = match.levels["host"], self.core.fleet
            self.core.apply(fleet.birth(name, said, self._clock(), retained=inbound.retain))

    def _on_heartbeat(self, inbound: Inbound, match: Match, _arrived: float) -> None:
        beat = messages.Heartbeat.decode(inbound.payload)
        self.core.apply(self.core.fleet.heartbeat(match.levels["host"], beat, self._clock()))

    def _on_status(self, inbound: Inbound, match: Match, _arrived: float) -> None:
        key = _key(match)
        status = messages.Status.decode(inbound.payload) if inbound.payload else None
        if status is not None or key in self.core.fleet.rows:
            self.core.apply(
                self.core.fleet.status(key, status, self._clock(), retained=inbound.retain)
            )

    def _on_meta(self, inbound: Inbound, match: Match, _arrived: float) -> None:
        key = _key(match)
        meta = messages.Meta.decode(inbound.payload) if inbound.payload else None
        if meta is not None or key in self.core.fleet.rows:
            self.core.apply(self.core.fleet.meta(key, meta, self._clock()))

    def _on_reply(self, inbound: Inbound, match: Match, _arrived: float) -> None:
        if inbound.payload:
            self.core.calls.replied(match.levels["id"], messages.Reply.decode(inbound.payload))

    def _on_row(self, inbound: Inbound, match: Match, _arrived: float) -> None:
        if inbound.retain and inbound.payload:
            self._relics.add(_key(match))

    def _sweep_relics(self) -> None:
        """Clear the rows of an earlier orchestrator that nothing stands behind any more."""
        for subscription in topics.TABLE_ROW.filters(self.site):
            self._bus.unsubscribe(subscription)
        for key in self._relics - self.core.fleet.rows.keys():
            self.core.publisher.clear(key, device=False)
        self._relics.clear()

    # -- once a second -----------------------------------------------------------------------------

    def _turn(self) -> None:
        self.core.turn()
        self._operations.sweep()
        if not self.core.connected:
            return
        report = health(
            self._loop,
            self._bus,
            self.own,
            queues={
                "store": self._store.waiting,
                "calls": len(self.core.calls),
                "requests": len(self._operations),
            },
            drops={
                **self._counts,
                **self._desk.counts,
                **self.core.calls.counts,
                **self._store.counts(),
            },
        )
        self._bus.publish(topics.ORCHESTRATOR_HEALTH.build(self.site), report.encode(), qos=0)


def _key(match: Match) -> Key:
    return Key(match.levels["host"], match.levels["driver"], match.levels["device"])
