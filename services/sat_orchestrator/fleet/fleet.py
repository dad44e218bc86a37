"""The fleet: hosts and devices as the bus shows them, in memory. PURE: messages and `now` in,
effects out.

The driver hosts own the truth of their devices; what they say is taken as it is and no transition
is ever refused here. Whether a host is there is judged by its heartbeat on the receiver's own
monotonic clock; its will is only the fast path. What carries another boot than the host's newest
birth is stale.

`now` is the orchestrator's monotonic clock in seconds throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sat_bus.contract.boot import boot_time, is_newer
from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import Birth, Desired, Heartbeat, HostState, Meta, Status
from sat_orchestrator.fleet import planner, presence, recovery, rows
from sat_orchestrator.fleet.effects import (
    Effect,
    EpochSeen,
    HostGone,
    HostRestarted,
    Noted,
    Resync,
    RowChanged,
)
from sat_orchestrator.fleet.policy import PolicyRule, decide
from sat_orchestrator.fleet.table import NOT_CLIENTS, Action, KnownHost, Presence, Record, Row
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import Busy, Code

LOST_AFTER_S = 3.0
SCAN_PERIOD_S = 10.0
RECOVERY_LIMIT = 5
MAX_ROWS = 10_000


class Fleet:
    """All hosts and rows.

    Args:
        rules: the policy.
        jitter: gives a number from 0 to 1 for each back-off.
        lost_after: seconds without a heartbeat after which a host is lost.
        scan_period: seconds between scans of a host.
        recovery_limit: recoveries from ERROR before the planner gives up.
    """

    def __init__(
        self,
        rules: Sequence[PolicyRule],
        jitter: Callable[[], float],
        *,
        lost_after: float = LOST_AFTER_S,
        scan_period: float = SCAN_PERIOD_S,
        recovery_limit: int = RECOVERY_LIMIT,
    ) -> None:
        self.hosts: dict[str, KnownHost] = {}
        self.rows: dict[Key, Row] = {}
        self._rules = rules
        self._jitter = jitter
        self._lost_after = lost_after
        self._scan_period = scan_period
        self._limit = recovery_limit

    def load(self, records: Iterable[Record], now: float) -> None:
        """Take over what the database has kept; all of it counts as lost until its host speaks."""
        for kept in records:
            row = self.row(kept.key, now)
            row.explicit, row.hardware_id = kept.explicit, kept.hardware_id
            row.streams_seen = dict(kept.streams_seen)
            row.last_known = None if kept.observed is DeviceState.UNKNOWN else kept.observed

    # -- hosts -------------------------------------------------------------------------------------

    def birth(self, name: str, birth: Birth, now: float, *, retained: bool) -> list[Effect]:
        """A host said who it is. Raises BadRequest where its boot is not a boot id."""
        host = self.host(name, now)
        is_current, effects = self._boot(host, birth.boot, now, revive=not retained)
        if not is_current:
            return effects
        if host.birth is None or host.birth.manifest.count != birth.manifest.count:
            presence.be_patient(host, now)
        host.birth = birth
        return [*effects, EpochSeen(birth.epoch_seen), *self._due(host, now)]

    def host_state(
        self, name: str, message: HostState, now: float, *, retained: bool
    ) -> list[Effect]:
        """A host, its will or an orchestrator said whether it is there. Raises BadRequest where its
        boot is not a boot id."""
        host = self.host(name, now)
        is_current, effects = self._boot(host, message.boot, now)
        if not is_current:
            return effects
        if message.state == "lost":
            # Only an orchestrator says so: news of the past, or an echo that a returning host has
            # overtaken.
            if host.presence is Presence.AWAITED and retained:
                effects += self._gone(host, "it was lost before", now)
            return effects
        host.word = message.state
        if message.state == "offline" and host.presence is not Presence.GONE:
            return effects + self._gone(host, "it is offline", now)
        return effects + self._due(host, now)

    def heartbeat(self, name: str, beat: Heartbeat, now: float) -> list[Effect]:
        """A host works. Raises BadRequest where its boot is not a boot id."""
        host = self.host(name, now)
        is_current, effects = self._boot(host, beat.boot, now)
        if not is_current:
            return effects
        host.timer = now
        if host.presence is Presence.ALIVE:
            return effects
        returned = host.presence is Presence.GONE
        host.presence, host.reason = Presence.ALIVE, ""
        host.scan_at = now
        presence.be_patient(host, now)
        if returned:
            host.word = "ready" if host.word == "offline" else host.word
            effects.append(Resync(name, "its heartbeat is back"))
        return effects + self._refresh_host(host) + self._due(host, now)

    def restart_timers(self, now: float) -> None:
        """Give every host its full time again: we were away or asleep, so that silence says nothing
        of them."""
        for host in self.hosts.values():
            host.timer = now

    def start_over(self, now: float) -> None:
        """Want everything again that was wanted before anybody could act on it."""
        for host in self.hosts.values():
            host.scan_at, host.resync_at = now, now + presence.RESYNC_AFTER_S
        for row in self.rows.values():
            row.lost_written_at = None

    def tick(self, now: float) -> list[Effect]:
        """What time alone brings about: lost hosts, scans that are due, truth that is missing."""
        effects: list[Effect] = []
        for host in list(self.hosts.values()):
            if host.presence is not Presence.GONE and now - host.timer > self._lost_after:
                effects += self._gone(host, f"no heartbeat for {self._lost_after:g} s", now)
            elif host.presence is Presence.GONE:
                effects += presence.to_correct(self.of_host(host.name), now)
            else:
                effects += self._due(host, now)
        for row in self.rows.values():
            recovery.note_health(
                row, planner.converged(rows.view(row, self.hosts[row.key.host])), now
            )
        return effects

    # -- devices -----------------------------------------------------------------------------------

    def status(
        self, key: Key, status: Status | None, now: float, *, retained: bool
    ) -> list[Effect]:
        """What the bus says of a device now; None when it was cleared."""
        row, host = self.row(key, now), self.hosts[key.host]
        before = row.status
        if status is None:
            row.status = None
            return self._refresh(row)
        if status.boot != host.boot:
            boot_time(status.boot)
        if before is not None and self._is_late(host, before, status):
            return []
        row.status, row.status_at = status, now
        recovery.settled(row)
        if status.quality == "good":
            row.lost_written_at = None
        effects = self._refresh(row)
        if rows.current(row, host):
            effects += self._weigh(row, before, status, now, retained=retained)
        return effects

    def meta(self, key: Key, meta: Meta | None, now: float) -> list[Effect]:
        """What a device is; None when that was cleared."""
        row = self.row(key, now)
        row.meta = meta
        if meta is None:
            return []
        effects: list[Effect] = [RowChanged(key)]
        if row.hardware_id is None and meta.hardware_id:
            row.hardware_id = meta.hardware_id
        held = rows.foreign_identity(row, meta)
        if held and held != row.held:
            effects.append(Noted(key, "held", held))
        row.held = held
        return effects

    def remove(self, key: Key) -> None:
        """Forget a device."""
        self.rows.pop(key, None)

    # -- what is desired, and actions ------------------------------------------------------------------------

    def proposal(self, key: Key, desired: Desired | None, *, accept: bool) -> Record:
        """The record to store before `set_desired` may be called with the same arguments."""
        row = self.rows[key]
        own = self._accepted_identity(row) if accept else row.hardware_id
        return replace(rows.record(row), explicit=desired, hardware_id=own)

    def set_desired(self, key: Key, desired: Desired | None, *, accept: bool) -> list[Effect]:
        """A client wants `desired`, or what policy says (None). It starts with a clean record of
        failures.

        Args:
            accept: the client takes the hardware that answers to the name now.
        """
        row = self.rows[key]
        row.explicit, row.client_until = desired, 0.0
        recovery.forgive(row)
        if accept:
            row.hardware_id, row.held = self._accepted_identity(row), ""
        return [RowChanged(key)]

    def release(self, key: Key) -> list[Effect]:
        """The device's quarantine is over: its record of failures is clean again."""
        recovery.forgive(self.rows[key])
        return [RowChanged(key)]

    def next_action(self, key: Key, now: float) -> Action | None:
        """What the planner would do with the device now."""
        row = self.rows.get(key)
        return (
            None if row is None else planner.next_action(rows.view(row, self.hosts[key.host]), now)
        )

    def begin(self, key: Key, action: Action) -> None:
        """The planner's action is under way."""
        row = self.rows[key]
        row.in_flight = action
        if action.operation == "reset" and row.observed is DeviceState.ERROR:
            row.rounds += 1

    def finish(
        self, key: Key, code: Code | None, message: str, reached: DeviceState | None, now: float
    ) -> list[Effect]:  # fmt: skip
        """The planner's action is over.

        Args:
            code: why it failed; None for success.
            reached: the state that the host reports.
        """
        row = self.rows.get(key)
        if row is None:
            return []
        failed = recovery.action_over(row, code, message, reached, now, self._jitter())
        return [RowChanged(key), *(recovery.give_up(row, self._limit) if failed else [])]

    def client_begins(self, key: Key) -> None:
        """A client's lifecycle request is under way: the planner keeps still."""
        self.rows[key].clients += 1

    def client_ends(
        self, key: Key, reached: DeviceState | None, now: float, *, failed: bool
    ) -> list[Effect]:
        """It is over; after a failure the client has a while to mend things itself."""
        row = self.rows.get(key)
        if row is None:
            return []
        row.clients = max(0, row.clients - 1)
        if failed:
            row.client_until = now + recovery.CLIENT_TURN_S
        recovery.settle(row, reached, now)
        return [RowChanged(key)]

    # -- inside ------------------------------------------------------------------------------------

    def host(self, name: str, now: float) -> KnownHost:
        """The host of this name; one that was never seen is awaited from now on."""
        return self.hosts.setdefault(name, KnownHost(name, timer=now))

    def row(self, key: Key, now: float) -> Row:
        """The row of `key`, made where it is new.

        Raises:
            Busy: the table is full.
        """
        known = self.rows.get(key)
        if known is not None:
            return known
        if len(self.rows) >= MAX_ROWS:
            raise Busy(f"the table holds {MAX_ROWS} devices already; forget some")
        self.host(key.host, now)
        decision = decide(self._rules, key)
        row = Row(key)
        if decision is not None:
            row.policy, row.rule = decision.desired, decision.rule
        self.rows[key] = row
        return row

    def of_host(self, name: str) -> list[Row]:
        """The rows of a host."""
        return [row for row in self.rows.values() if row.key.host == name]

    def _boot(
        self, host: KnownHost, boot: str, now: float, *, revive: bool = False
    ) -> tuple[bool, list[Effect]]:
        """Whether `boot` is the host's present one, after taking it as such where it is newer.

        Args:
            revive: also take an older one when the present one is gone: the host's clock was set
                back.
        """
        boot_time(boot)
        if boot == host.boot:
            return True, []
        known = bool(host.boot)
        if (
            known
            and not is_newer(boot, host.boot)
            and not (revive and host.presence is Presence.GONE)
        ):
            return False, []
        host.boot, host.birth, host.word, host.reason = boot, None, "", ""
        host.presence, host.timer = Presence.AWAITED, now
        for row in self.of_host(host.name):
            recovery.forgive(row)
        effects: list[Effect] = [HostRestarted(host.name)] if known else []
        return True, effects + self._refresh_host(host)

    def _gone(self, host: KnownHost, reason: str, now: float) -> list[Effect]:
        host.presence, host.reason = Presence.GONE, reason
        effects: list[Effect] = [HostGone(host.name, reason)]
        effects += self._refresh_host(host)
        for row in self.of_host(host.name):
            effects.append(Noted(row.key, "lost", f"host {host.name} is lost: {reason}"))
        return effects + presence.to_correct(self.of_host(host.name), now, at_once=True)

    def _due(self, host: KnownHost, now: float) -> list[Effect]:
        return presence.due(host, self.of_host(host.name), now, self._scan_period)

    def _is_late(self, host: KnownHost, before: Status, status: Status) -> bool:
        """Whether `status` is older than the one that is known."""
        if status.boot == before.boot:
            return status.rev < before.rev
        return before.boot == host.boot or (
            status.boot != host.boot and is_newer(before.boot, status.boot)
        )

    def _weigh(
        self, row: Row, before: Status | None, status: Status, now: float, *, retained: bool
    ) -> list[Effect]:  # fmt: skip
        """What a status of the present boot means for what is desired, failures and the client's
        turn."""
        effects: list[Effect] = [RowChanged(row.key)]
        rows.learn_streams(row, status)
        old = before.state if before is not None and before.quality == "good" else None
        if before is None or old is status.state:
            return effects
        if old is DeviceState.UNKNOWN:
            recovery.forgive(row)  # plugged in again
        elif status.state is DeviceState.ERROR and old is not None:
            recovery.count_failure(row, now, self._jitter())
            effects += recovery.give_up(row, self._limit)
        lowered = status.state not in (DeviceState.CONNECTED, DeviceState.ACTIVE)
        if not retained and lowered and status.by not in NOT_CLIENTS:
            row.client_until = now + recovery.CLIENT_TURN_S
        return effects

    def _accepted_identity(self, row: Row) -> str | None:
        return (row.meta.hardware_id if row.meta is not None else None) or row.hardware_id

    def _refresh(self, row: Row) -> list[Effect]:
        return [RowChanged(row.key)] if rows.refresh(row, self.hosts[row.key.host]) else []

    def _refresh_host(self, host: KnownHost) -> list[Effect]:
        """All rows of a host whose presence or boot changed: each is to be planned anew."""
        effects: list[Effect] = []
        for row in self.of_host(host.name):
            rows.refresh(row, host)
            effects.append(RowChanged(row.key))
        return effects
