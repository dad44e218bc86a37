"""The orchestrator on the bus: its parts put together, its subscriptions and its timers.

Everything runs on the work loop, bus handlers too.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import structlog

from sat_bus.contract import messages, topics
from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import OrchestratorState
from sat_bus.contract.topics import Match, Topic
from sat_bus.service.loop import Timer, WorkLoop
from sat_bus.service.request_desk import RequestDesk
from sat_bus.service.run import STOOD_DOWN, health
from sat_bus.service.tasks import Task
from sat_bus.transport.bus import Bus, Inbound
from sat_orchestrator.bus.host_calls import HostCalls
from sat_orchestrator.bus.publisher import TablePublisher
from sat_orchestrator.fleet.fleet import LOST_AFTER_S, Fleet
from sat_orchestrator.fleet.leadership import Leadership
from sat_orchestrator.hosts import Hosts
from sat_orchestrator.keeper import Keeper
from sat_orchestrator.lead import Lead
from sat_orchestrator.requests import Requests
from sat_orchestrator.settings import OrchestratorSettings
from sat_orchestrator.steering import Steering
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
    ) -> None:
        self.site, self.own = settings.site, own
        self._loop, self._bus, self._store = loop, bus, store
        self._counts: Counter[str] = Counter()
        self._fleet = Fleet(
            settings.policy,
            random.random,
            lost_after=lost_after,
            scan_period=settings.scan_period_s,
            recovery_limit=settings.recovery_limit,
        )
        leadership = Leadership(own, kept.epoch)
        self._lead = Lead(self.site, bus, store, leadership)
        self._calls = HostCalls(self.site, own, bus, leadership, loop)
        self._publisher = TablePublisher(self.site, bus, self._fleet, loop)
        hosts = Hosts(loop, self._fleet, self._calls, self._lead)
        self._keeper = Keeper(loop, self._fleet, store)
        self._keeper.load(kept)
        self._steering = Steering(loop, self._fleet, hosts, self._publisher, self._lead)
        self._desk = RequestDesk(self.site, NAME, own, bus, loop.now, own_boot_only=False)
        self._requests = Requests(
            loop, self._desk, self._fleet, hosts, self._keeper, self._steering, store
        )
        self._connected_at = 0.0
        self._retained_at = 0.0
        self._quiet: Timer | None = None
        self._relics: set[Key] = set()
        self._take: dict[str, Callable[[Inbound, Match], None]] = {
            topics.HOST_STATE.name: self._on_host_state,
            topics.HOST_BIRTH.name: self._on_birth,
            topics.HOST_HEARTBEAT.name: self._on_heartbeat,
            topics.DEVICE_STATUS.name: self._on_status,
            topics.DEVICE_META.name: self._on_meta,
            topics.ORCHESTRATOR_STATE.name: self._on_orchestrator,
            topics.TABLE_ROW.name: self._on_row,
            topics.REPLY.name: self._on_reply,
            topics.SET.name: self._requests.handle,
            topics.ORCHESTRATOR_REQUEST.name: self._requests.handle,
        }

    def connected(self) -> bool:
        """Whether the broker is there."""
        return self._bus.connected

    def leading(self) -> bool:
        """Whether this orchestrator leads the site."""
        return self._lead.leading

    def words(self) -> str:
        """What it is doing, for a person."""
        return f"leading the site {self.site}, devices: {len(self._fleet.rows)}"

    @property
    def waiting(self) -> int:
        """Requests of clients that are not answered yet."""
        return len(self._requests)

    # -- Service -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, and lead as soon as the truth that the broker holds is in."""
        self._bus.deliver_on(self._loop.perform)
        for topic in _WATCHED:
            self._subscribe(topic)
        self._subscribe(topics.REPLY, client=self.own)
        self._bus.on_connection(self._on_connection)
        self._loop.on_gap(self._on_gap)
        self._loop.every(_TICK_S, self._steering.tick)
        self._loop.every(_TURN_S, self._turn)
        self._loop.every(_FLUSH_S, self._publisher.flush)
        self._quiet = self._loop.every(_FLUSH_S, self._lead_when_quiet)
        self._bus.start()

    def stop(self) -> None:
        """Say goodbye and leave; devices stay as they are."""
        was_leading, self._lead.leading = self._lead.leading, False
        self._requests.abandon()
        if was_leading:
            self._lead.say("offline")
        self._bus.flush(1.0)
        self._keeper.note_observed()
        self._bus.close()
        self._store.close()

    # -- leadership --------------------------------------------------------------------------------

    def _lead_when_quiet(self) -> None:
        """Claim the lead when no more retained messages come: what is true must be known before it
        is planned."""
        if not self._steering.connected:
            return
        now = self._loop.now()
        quiet = now - max(self._connected_at, self._retained_at)
        if quiet >= QUIET_S or now - self._connected_at >= QUIET_AT_MOST_S:
            if self._quiet is not None:
                self._quiet.cancel()
            Task(self._loop, self._take_the_lead())

    async def _take_the_lead(self) -> None:
        await self._lead.take()
        self._fleet.start_over(self._loop.now())
        self._subscribe(topics.SET)
        self._subscribe(topics.ORCHESTRATOR_REQUEST)
        self._lead.say("ready")
        self._loop.later(SWEEP_AFTER_S, self._sweep_relics)
        self._turn()

    def _on_orchestrator(self, inbound: Inbound, _match: Match) -> None:
        if inbound.payload and self._lead.yields_to(OrchestratorState.decode(inbound.payload)):
            self._loop.finish(STOOD_DOWN)

    # -- what comes in -----------------------------------------------------------------------------

    def _subscribe(self, topic: Topic, **levels: str) -> None:
        for subscription in topic.filters(self.site, **levels):
            self._bus.subscribe(subscription, self._on_message, qos=topic.qos)

    def _on_message(self, inbound: Inbound) -> None:
        if inbound.retain:
            self._retained_at = self._loop.now()
        match = topics.parse(self.site, inbound.topic)
        handler = self._take.get(match.topic.name) if match is not None else None
        if match is None or handler is None:
            self._counts["bad_topic"] += 1
            return
        try:
            handler(inbound, match)
        except SatError as error:
            self._counts["garbage"] += 1
            _log.debug("garbage", topic=inbound.topic, reason=str(error))

    def _on_connection(self, up: bool) -> None:
        if not up:
            self._steering.connected = False
            return
        self._connected_at = self._loop.now()
        if self._lead.leading:
            self._lead.say("ready")
        self._steering.reconnected()

    def _on_gap(self, _seconds: float) -> None:
        self._fleet.restart_timers(self._loop.now())

    def _on_host_state(self, inbound: Inbound, match: Match) -> None:
        if inbound.payload:
            said = messages.HostState.decode(inbound.payload)
            name, now = match.levels["host"], self._loop.now()
            self._steering.apply(self._fleet.host_state(name, said, now, retained=inbound.retain))

    def _on_birth(self, inbound: Inbound, match: Match) -> None:
        if inbound.payload:
            said = messages.Birth.decode(inbound.payload)
            name, now = match.levels["host"], self._loop.now()
            self._steering.apply(self._fleet.birth(name, said, now, retained=inbound.retain))

    def _on_heartbeat(self, inbound: Inbound, match: Match) -> None:
        beat = messages.Heartbeat.decode(inbound.payload)
        self._steering.apply(self._fleet.heartbeat(match.levels["host"], beat, self._loop.now()))

    def _on_status(self, inbound: Inbound, match: Match) -> None:
        key, now = _key(match), self._loop.now()
        status = messages.Status.decode(inbound.payload) if inbound.payload else None
        if status is not None or key in self._fleet.rows:
            self._steering.apply(self._fleet.status(key, status, now, retained=inbound.retain))

    def _on_meta(self, inbound: Inbound, match: Match) -> None:
        key = _key(match)
        meta = messages.Meta.decode(inbound.payload) if inbound.payload else None
        if meta is not None or key in self._fleet.rows:
            self._steering.apply(self._fleet.meta(key, meta, self._loop.now()))

    def _on_reply(self, inbound: Inbound, match: Match) -> None:
        self._calls.replied(match.levels["id"], inbound)

    def _on_row(self, inbound: Inbound, match: Match) -> None:
        if inbound.retain and inbound.payload:
            self._relics.add(_key(match))

    def _sweep_relics(self) -> None:
        """Clear the rows of an earlier orchestrator that nothing stands behind any more."""
        for subscription in topics.TABLE_ROW.filters(self.site):
            self._bus.unsubscribe(subscription)
        for key in self._relics - self._fleet.rows.keys():
            self._publisher.clear(key, device=False)
        self._relics.clear()

    # -- once a second -----------------------------------------------------------------------------

    def _turn(self) -> None:
        if self._lead.leading:
            self._steering.turn()
            self._keeper.note_observed()
            self._keeper.save_again()
        if self._steering.connected:
            self._publish_health()

    def _publish_health(self) -> None:
        queues = {
            "store": self._store.waiting,
            "calls": len(self._calls),
            "requests": len(self._requests),
        }
        drops = {
            **self._counts,
            **self._desk.counts,
            **self._calls.counts,
            **self._store.counts(),
        }
        report = health(self._loop, self._bus, self.own, queues=queues, drops=drops)
        self._bus.publish(topics.ORCHESTRATOR_HEALTH.build(self.site), report.encode(), qos=0)


def _key(match: Match) -> Key:
    return Key(match.levels["host"], match.levels["driver"], match.levels["device"])
