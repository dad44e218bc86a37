"""The lead of a site as the bus and the database see it: claims of an epoch, and what is said on
`orch/state`. `fleet.leadership` holds the rules."""

from __future__ import annotations

import structlog

from sat_bus.contract import topics
from sat_bus.contract.messages import OrchestratorState
from sat_bus.contract.topics import Traffic
from sat_bus.transport.bus import Bus
from sat_orchestrator.fleet.leadership import Leadership, Verdict
from sat_orchestrator.store.store import Store

_log = structlog.get_logger(__name__)


class Lead:
    """Whether we lead, and under which epoch.

    Attributes:
        leading: hosts are asked and the bus is written to by us; before that we only listen.
    """

    def __init__(self, site: str, bus: Bus, store: Store, leadership: Leadership) -> None:
        self.leading = False
        self._topic = topics.ORCHESTRATOR_STATE.build(site)
        self._bus, self._store = bus, store
        self._leadership = leadership

    async def take(self) -> None:
        """Claim an epoch above all that were seen, store it, and lead."""
        epoch = self._leadership.claim()
        failure = await self._store.save_epoch(epoch)
        if failure:  # births tell the next start which epochs there were
            _log.error("the epoch could not be stored", reason=failure)
        _log.info("leading", epoch=self._leadership.epoch)
        self.leading = True

    def saw(self, epoch: int) -> None:
        """A host has seen `epoch`: go above it."""
        if self._leadership.saw(epoch):
            self.rise()

    def rise(self) -> None:
        """A host refuses our epoch, or knows a higher one: take one above all that were seen."""
        if self.leading:
            epoch = self._leadership.claim()
            _log.warning("taking a higher epoch", epoch=epoch)
            self._store.save_epoch(epoch)
            self.say("ready")

    def yields_to(self, said: OrchestratorState) -> bool:
        """Somebody spoke on `orch/state`: whether another one leads now. Whatever else hides that
        we lead is overwritten."""
        verdict = self._leadership.judge(said)
        if not self.leading:
            return False
        if verdict is Verdict.REASSERT:
            self.say("ready")
        if verdict is not Verdict.STAND_DOWN:
            return False
        _log.error("another orchestrator leads; this one ends", other=said.id, epoch=said.epoch)
        self.leading = False
        return True

    def say(self, state: str) -> None:
        """Publish that we lead, or (``offline``) that we no longer do."""
        said = OrchestratorState.model_validate(
            {"state": state, "id": self._leadership.own, "epoch": self._leadership.epoch}
        )
        self._bus.publish(self._topic, said.encode(), retain=True, traffic=Traffic.STATE)
