"""Who leads: the rising epoch, and what another orchestrator's word means. PURE.

Each start claims an epoch above every one that was ever seen; hosts refuse requests of a lower one.
Of two that are alive the higher epoch leads and the other ends.
"""

from __future__ import annotations

from enum import StrEnum

from sat_bus.contract.messages import OrchestratorState


class Verdict(StrEnum):
    """What to do about a message on `orch/state`."""

    IGNORE = "ignore"
    REASSERT = "reassert"  # say again that we lead: a will or an older one stands there
    STAND_DOWN = "stand down"


class Leadership:
    """The epoch of orchestrator `own`; `stored` is the highest that the database knows."""

    def __init__(self, own: str, stored: int) -> None:
        self.own = own
        self.epoch = 0
        self._highest = stored

    def saw(self, epoch: int) -> bool:
        """Somebody has seen `epoch`; whether ours is now too low."""
        self._highest = max(self._highest, epoch)
        return 0 < self.epoch < epoch

    def claim(self) -> int:
        """Take an epoch above all that were seen."""
        self._highest = self.epoch = self._highest + 1
        return self.epoch

    def judge(self, said: OrchestratorState) -> Verdict:
        """What a message on `orch/state` means to us."""
        too_low = self.saw(said.epoch)
        if not self.epoch:
            return Verdict.IGNORE
        if said.id == self.own:
            return Verdict.IGNORE if said.state == "ready" else Verdict.REASSERT
        if said.state == "offline":
            return Verdict.REASSERT
        rival_leads = too_low or (said.epoch, said.id) > (self.epoch, self.own)
        return Verdict.STAND_DOWN if rival_leads else Verdict.REASSERT
