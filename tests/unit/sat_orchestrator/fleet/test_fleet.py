"""The fleet: whose word counts, when a host is lost, and what follows for its devices. No clock but
`now`."""

from __future__ import annotations

from typing import Any

import pytest

from sat_bus.contract.device_key import Key
from sat_bus.contract.messages import (
    Birth,
    Desired,
    DriverInfo,
    Heartbeat,
    HostState,
    Manifest,
    Meta,
    Status,
    StreamStatus,
)
from sat_orchestrator.fleet import rows
from sat_orchestrator.fleet.effects import (
    Effect,
    EpochSeen,
    HostGone,
    HostRestarted,
    Noted,
    Resync,
    RowChanged,
    ScanWanted,
    WriteLost,
)
from sat_orchestrator.fleet.fleet import Fleet
from sat_orchestrator.fleet.policy import PolicyRule
from sat_orchestrator.fleet.table import Action, Presence, Record, Row
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import BadRequest, Code

S = DeviceState
OLD, BOOT, NEW = "1000-aa", "2000-bb", "3000-cc"
KEY = Key("bench", "drv_x", "can0")
CONNECT = [PolicyRule(level="connected", streams={"can": {}}, name="all")]


class Site:
    """A fleet with the messages of one host, and a clock that the test moves."""

    def __init__(self, rules: list[PolicyRule] | None = None, **settings: Any) -> None:
        self.fleet = Fleet(CONNECT if rules is None else rules, lambda: 0.5, **settings)
        self.now = 100.0
        self.rev = 0

    @property
    def row(self) -> Row:
        return self.fleet.rows[KEY]

    def birth(
        self, boot: str = BOOT, *, count: int = 1, epoch: int = 0, retained: bool = False
    ) -> list[Effect]:
        birth = Birth(
            boot=boot, family="can", drivers=[DriverInfo(name="drv_x")], manifest=Manifest(count=count, rev=1),
            epoch_seen=epoch, version="0", clock=0.0,
        )  # fmt: skip
        return self.fleet.birth("bench", birth, self.now, retained=retained)

    def beat(self, boot: str = BOOT) -> list[Effect]:
        return self.fleet.heartbeat("bench", Heartbeat(boot=boot, n=1, mono_ms=1), self.now)

    def says(self, state: str, boot: str = BOOT, *, retained: bool = False) -> list[Effect]:
        message = HostState.model_validate({"state": state, "boot": boot})
        return self.fleet.host_state("bench", message, self.now, retained=retained)

    def status(self, state: DeviceState, *, retained: bool = False, **fields: Any) -> list[Effect]:
        self.rev += 1
        status = Status(**{
            "state": state, "previous": S.UNKNOWN, "since": 0.0, "rev": self.rev, "boot": BOOT, "by": "host", **fields
        })  # fmt: skip
        return self.fleet.status(KEY, status, self.now, retained=retained)

    def meta(self, hardware_id: str | None = None) -> list[Effect]:
        meta = Meta(name="can0", device_type="CAN", hardware_id=hardware_id, streams=["can"])
        return self.fleet.meta(KEY, meta, self.now)

    def after(self, seconds: float) -> list[Effect]:
        self.now += seconds
        return self.fleet.tick(self.now)

    def beating(self, seconds: float) -> list[Effect]:
        """Time passes while the host is heard."""
        effects: list[Effect] = []
        for _ in range(int(seconds)):
            self.beat()
            effects += self.after(1.0)
        return effects

    def action(self) -> str | None:
        action = self.fleet.next_action(KEY, self.now)
        return action.operation if action is not None else None

    def act(self) -> str:
        """Begin what the planner wants."""
        action = self.fleet.next_action(KEY, self.now)
        assert action is not None
        self.fleet.begin(KEY, action)
        return action.operation

    def finish(self, code: Code | None = None, reached: DeviceState | None = None) -> list[Effect]:
        return self.fleet.finish(KEY, code, "no", reached, self.now)


def site_with(state: DeviceState = S.DISCOVERED, **settings: Any) -> Site:
    """A site whose host is there and whose device is in `state`."""
    site = Site(**settings)
    site.birth()
    site.says("ready")
    site.meta()
    site.status(state)
    site.beat()
    site.after(0.1)
    return site


def kinds(effects: list[Effect]) -> set[type[Effect]]:
    return {type(effect) for effect in effects}


# -- hosts -----------------------------------------------------------------------------------------


def test_a_host_is_scanned_when_it_is_heard_and_then_each_period() -> None:
    site = Site()
    assert ScanWanted("bench") not in site.birth(count=0)
    assert ScanWanted("bench") in site.beat()
    assert ScanWanted("bench") not in site.beating(9.0)
    assert ScanWanted("bench") in site.beating(2.0)


def test_a_starting_or_draining_host_is_left_in_peace() -> None:
    site = Site()
    site.says("init")
    site.birth(count=0)
    assert ScanWanted("bench") not in site.beat()
    assert ScanWanted("bench") in site.says("ready")
    site.meta()
    site.status(S.DISCOVERED)
    assert site.action() == "connect"
    site.says("draining")
    assert site.action() is None


def test_three_seconds_of_silence_are_a_loss() -> None:
    site = site_with(S.CONNECTED)
    assert HostGone not in kinds(site.after(2.8))
    effects = site.after(0.3)
    assert HostGone("bench", "no heartbeat for 3 s") in effects
    assert WriteLost(KEY) in effects
    assert (site.row.observed, site.row.quality, site.row.last_known) == (
        S.UNKNOWN,
        "lost",
        S.CONNECTED,
    )


def test_the_lost_status_carries_the_hosts_boot_and_rev() -> None:
    site = site_with(S.CONNECTED)
    site.says("offline")
    written = rows.lost_status(site.row, site.fleet.hosts["bench"], 5.0)
    assert (written.state, written.quality, written.last_known) == (S.UNKNOWN, "lost", S.CONNECTED)
    assert (written.boot, written.rev, written.by) == (BOOT, site.rev, "orchestrator")
    assert written.previous is S.CONNECTED


def test_the_will_of_the_present_boot_is_a_loss_at_once() -> None:
    site = site_with(S.CONNECTED)
    assert {HostGone, WriteLost} <= kinds(site.says("offline"))
    assert site.says("offline") == []


def test_the_will_of_an_older_boot_is_ignored() -> None:
    site = site_with(S.CONNECTED)
    assert site.says("offline", OLD) == []
    assert site.row.quality == "good"


def test_an_echo_of_lost_does_not_lose_a_living_host() -> None:
    site = site_with(S.CONNECTED)
    assert site.says("lost") == []
    assert site.says("lost", retained=True) == []
    assert site.row.quality == "good"


def test_what_an_earlier_orchestrator_wrote_of_a_lost_host_stands_until_it_beats() -> None:
    site = Site()
    site.birth(retained=True)
    assert HostGone in kinds(site.says("lost", retained=True))
    assert site.fleet.hosts["bench"].presence is Presence.GONE
    assert Resync in kinds(site.beat())


def test_a_retained_ready_that_never_beats_is_lost() -> None:
    site = Site()
    site.says("ready", retained=True)
    site.birth(retained=True)
    site.status(S.CONNECTED, retained=True)
    assert site.row.quality == "good"
    assert WriteLost(KEY) in site.after(3.1)


def test_a_device_of_a_host_that_was_never_seen_is_lost_too() -> None:
    site = Site()
    site.status(S.CONNECTED, retained=True)
    assert WriteLost(KEY) in site.after(3.1)


def test_a_frozen_watcher_calls_nobody_lost() -> None:
    site = site_with(S.CONNECTED)
    site.now += 60.0
    site.fleet.restart_timers(site.now)
    assert HostGone not in kinds(site.after(2.9))
    assert HostGone in kinds(site.after(0.2))


def test_a_returning_host_is_asked_for_the_truth_and_believed_again() -> None:
    site = site_with(S.CONNECTED)
    site.after(3.1)
    site.status(S.UNKNOWN, quality="lost", by="orchestrator", last_known=S.CONNECTED, rev=site.rev)
    effects = site.beat()
    assert Resync("bench", "its heartbeat is back") in effects
    assert site.action() is None
    assert site.row.quality == "lost"
    site.status(S.CONNECTED, rev=1)
    assert (site.row.observed, site.row.quality, site.row.last_known) == (S.CONNECTED, "good", None)


def test_a_device_that_stays_lost_on_a_living_host_is_asked_for_again_and_again() -> None:
    site = site_with(S.CONNECTED)
    site.status(S.UNKNOWN, quality="lost", by="orchestrator")
    effects = [effect for effect in site.beating(20) if isinstance(effect, Resync)]
    assert len(effects) == 4  # after 1 s, then 2, 4 and 8 s later
    assert "can0" in effects[0].reason


def test_what_the_manifest_promises_and_nobody_saw_is_asked_for() -> None:
    site = Site()
    site.birth(count=2)
    site.meta()
    site.status(S.DISCOVERED)
    site.beat()
    assert Resync("bench", "1 of 2 devices are known") in site.beating(2)
    site = site_with()
    assert Resync not in kinds(site.beating(10))


def test_a_host_without_a_birth_is_asked_for_it() -> None:
    site = Site()
    site.beat()
    assert Resync("bench", "its birth is missing") in site.beating(2)


def test_a_good_word_about_a_lost_host_is_corrected_after_a_moment() -> None:
    site = site_with(S.CONNECTED)
    site.says("offline")
    site.status(S.UNKNOWN, quality="lost", by="orchestrator", rev=site.rev)
    assert site.after(1.0) == []
    site.status(S.CONNECTED)
    assert site.row.observed is S.UNKNOWN
    assert WriteLost(KEY) not in site.after(0.5)
    assert WriteLost(KEY) in site.after(0.6)


def test_a_new_boot_takes_over_and_the_old_ones_words_are_stale() -> None:
    site = site_with(S.CONNECTED)
    assert HostRestarted("bench") in site.birth(NEW)
    assert (site.row.observed, site.row.quality) == (S.UNKNOWN, "lost")
    site.beat(NEW)
    assert site.action() is None
    assert site.beat(OLD) == []
    assert site.birth(BOOT) == []
    site.status(S.CONNECTED)
    assert site.row.quality == "lost"
    site.status(S.DISCOVERED, boot=NEW, rev=1)
    assert (site.row.observed, site.row.quality) == (S.DISCOVERED, "good")
    site.status(S.CONNECTED, boot=BOOT, rev=99)
    assert site.row.observed is S.DISCOVERED


def test_a_new_boot_is_awaited_and_has_its_full_time() -> None:
    site = site_with(S.CONNECTED)
    site.now += 2.9
    site.birth(NEW)
    site.status(S.DISCOVERED, boot=NEW, rev=1)
    assert site.action() is None
    assert HostGone not in kinds(site.after(2.9))
    site.beat(NEW)
    assert site.action() == "connect"


def test_a_host_whose_clock_was_set_back_is_taken_when_the_other_is_gone() -> None:
    site = site_with(S.CONNECTED)
    site.says("offline")
    assert site.birth(OLD, retained=True) == []
    assert HostRestarted("bench") in site.birth(OLD)
    site.beat(OLD)
    host = site.fleet.hosts["bench"]
    assert (host.boot, host.presence) == (OLD, Presence.ALIVE)


def test_what_is_not_a_boot_id_is_refused() -> None:
    site = Site()
    with pytest.raises(BadRequest):
        site.birth("whenever")
    with pytest.raises(BadRequest):
        site.beat("")
    with pytest.raises(BadRequest):
        site.status(S.CONNECTED, boot="x")


def test_births_tell_of_epochs() -> None:
    assert EpochSeen(7) in Site().birth(epoch=7)


def test_what_was_wanted_before_anybody_listened_is_wanted_again() -> None:
    site = site_with(S.CONNECTED)
    site.fleet.start_over(site.now)
    assert ScanWanted("bench") in site.after(0.0)


# -- devices ---------------------------------------------------------------------------------------


def test_an_observation_is_never_judged() -> None:
    site = site_with(S.DISCOVERED)
    for state in (S.ACTIVE, S.DISCOVERED, S.UNKNOWN, S.ERROR, S.CONNECTED):
        assert RowChanged(KEY) in site.status(state)
        assert site.row.observed is state


def test_a_late_repetition_changes_nothing() -> None:
    site = site_with(S.DISCOVERED)
    site.status(S.CONNECTED)
    assert site.status(S.DISCOVERED, rev=1) == []
    assert site.row.observed is S.CONNECTED


def test_a_cleared_status_leaves_the_row_unknown() -> None:
    site = site_with(S.CONNECTED)
    assert RowChanged(KEY) in site.fleet.status(KEY, None, site.now, retained=False)
    assert (site.row.observed, site.row.quality, site.row.last_known) == (
        S.UNKNOWN,
        "lost",
        S.CONNECTED,
    )


def test_nothing_is_planned_before_the_truth_is_known() -> None:
    site = Site()
    site.fleet.load([Record(KEY, observed=S.CONNECTED)], site.now)
    assert site.row.last_known is S.CONNECTED
    for step in (
        lambda: None,
        lambda: site.birth(retained=True),
        lambda: site.status(S.DISCOVERED, retained=True),
        site.meta,
    ):
        step()
        assert site.action() is None
    site.beat()
    assert site.action() == "connect"


def test_other_hardware_is_held_until_a_client_takes_it() -> None:
    site = site_with()
    site.meta("serial-1")
    assert site.row.hardware_id == "serial-1"
    (note,) = [effect for effect in site.meta("serial-2") if isinstance(effect, Noted)]
    assert note.event == "held"
    assert "serial-2" in site.row.held
    assert site.action() is None
    assert not [effect for effect in site.meta("serial-2") if isinstance(effect, Noted)]
    desired = Desired(level="connected")
    assert site.fleet.proposal(KEY, desired, accept=True).hardware_id == "serial-2"
    site.fleet.set_desired(KEY, desired, accept=True)
    assert (site.row.held, site.row.hardware_id) == ("", "serial-2")
    assert site.action() == "connect"


def test_the_own_hardware_coming_back_releases_the_hold() -> None:
    site = site_with()
    site.meta("serial-1")
    site.meta("serial-2")
    site.meta("serial-1")
    assert site.row.held == ""


# -- what is desired ----------------------------------------------------------------------------------------


def running(by: str, ident: str = "s1", **args: Any) -> dict[str, StreamStatus]:
    return {"can": StreamStatus(state="running", stream=ident, by=by, args=args)}


def stopped(by: str, ident: str = "s1") -> dict[str, StreamStatus]:
    return {"can": StreamStatus(state="stopped", stream=ident, by=by)}


def test_policy_speaks_until_a_client_does_and_again_after_auto() -> None:
    site = site_with()
    assert (site.row.source, site.row.desired) == (
        "all",
        Desired(level="connected", streams={"can": {}}),
    )
    site.fleet.set_desired(KEY, Desired(level="disconnected"), accept=False)
    assert site.row.source == "explicit"
    assert site.action() is None
    site.fleet.set_desired(KEY, None, accept=False)
    assert site.action() == "connect"


def test_a_clients_stop_takes_the_stream_out_of_what_is_desired() -> None:
    site = site_with(S.CONNECTED)
    site.status(S.CONNECTED, streams=running("orchestrator"))
    assert site.row.source == "all"
    site.status(S.CONNECTED, streams=stopped("ann"))
    assert site.row.explicit == Desired(level="connected")
    assert site.action() is None


def test_a_stop_that_happened_while_we_were_away_counts() -> None:
    site = site_with(S.CONNECTED)
    site.status(S.CONNECTED, streams=stopped("ann"), retained=True)
    assert site.row.explicit == Desired(level="connected")


def test_a_clients_start_adds_the_stream_with_its_args() -> None:
    site = site_with(S.CONNECTED)
    site.status(S.CONNECTED, streams=running("ann", bitrate=5))
    assert site.row.explicit == Desired(level="connected", streams={"can": {"bitrate": 5}})


@pytest.mark.parametrize("by", ["host", "orchestrator", "policy"])
def test_stops_that_no_client_asked_for_leave_what_is_desired_alone(by: str) -> None:
    site = site_with(S.CONNECTED)
    site.status(S.CONNECTED, streams=stopped(by))
    assert site.row.explicit is None
    assert site.action() == "start"


def test_what_is_desired_later_outweighs_what_a_client_did_before() -> None:
    site = site_with(S.CONNECTED)
    site.status(S.CONNECTED, streams=running("ann"))
    site.fleet.set_desired(KEY, Desired(level="connected"), accept=False)
    assert site.status(S.CONNECTED, streams=running("ann"), reason="again") == [RowChanged(KEY)]
    assert site.row.explicit == Desired(level="connected")
    kept = rows.record(site.row)
    again = Site()
    again.fleet.load([kept], again.now)
    again.birth(retained=True)
    again.status(S.CONNECTED, streams=running("ann"), retained=True)
    assert again.row.explicit == Desired(level="connected")


# -- failures --------------------------------------------------------------------------------------


def test_one_action_at_a_time_and_the_next_waits_for_the_status() -> None:
    site = site_with()
    assert site.act() == "connect"
    assert site.action() is None
    site.finish(reached=S.CONNECTED)
    assert site.action() is None  # the reply ran ahead of the state
    site.status(S.INITIALIZED)
    assert site.action() is None  # on its way
    site.status(S.CONNECTED)
    assert site.action() == "start"


def test_a_status_that_never_comes_is_not_waited_for_forever() -> None:
    site = site_with()
    site.act()
    site.finish(reached=S.CONNECTED)
    site.beating(3)
    assert site.action() == "connect"


def test_a_started_stream_is_not_started_again_before_its_status_comes() -> None:
    site = site_with(S.CONNECTED)
    assert site.act() == "start"
    site.finish(reached=S.CONNECTED)
    assert site.action() is None
    site.status(S.CONNECTED, reason="something else")
    assert site.action() is None
    site.status(S.CONNECTED, streams=running("orchestrator"), acquiring=True)
    assert site.action() is None
    assert site.row.settle_until == 0.0


def test_failures_back_off_and_double() -> None:
    site = site_with()
    waits = []
    for _ in range(4):
        site.act()
        site.finish(Code.TIMEOUT)
        before = site.now
        while site.action() is None:
            site.beat()
            site.now += 0.25
        waits.append(site.now - before)
    assert waits == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("code", [Code.BUSY, Code.FENCED, Code.HOST_LOST, Code.EXPIRED])
def test_what_never_reached_the_driver_is_no_failure(code: Code) -> None:
    site = site_with()
    site.act()
    site.finish(code)
    assert site.row.attempts == 0
    assert site.action() is None
    site.now += 1.0
    assert site.action() == "connect"


def test_an_error_is_counted_once_whichever_of_reply_and_status_comes_first() -> None:
    for status_first in (True, False):
        site = site_with()
        site.act()
        if status_first:
            site.status(S.ERROR, reason="no carrier")
        site.finish(Code.DRIVER_ERROR, reached=S.ERROR)
        if not status_first:
            site.status(S.ERROR, reason="no carrier")
        assert site.row.attempts == 1, status_first
        site.beating(2)
        assert site.action() == "reset"


def fail_once(site: Site) -> list[Effect]:
    """A round of recovery that ends in ERROR again."""
    while site.action() is None:
        site.beating(1)
    assert site.act() == "reset"
    site.finish(reached=S.DISCONNECTED)
    site.status(S.DISCONNECTED)
    assert site.act() == "connect"
    effects = site.status(S.ERROR, reason="no carrier")
    return effects + site.finish(Code.DRIVER_ERROR, reached=S.ERROR)


def test_after_five_recoveries_it_stays_in_error_and_says_so() -> None:
    site = site_with(S.CONNECTED)
    site.status(S.ERROR, reason="no carrier")
    for _ in range(4):
        assert Noted not in kinds(fail_once(site))
    (note,) = [effect for effect in fail_once(site) if isinstance(effect, Noted)]
    assert note.event == "gave_up"
    site.beating(120)
    assert site.action() is None
    shown = rows.table_row(site.row, site.fleet.hosts["bench"])
    assert "gave up after 5 recoveries" in shown.reason
    assert "no carrier" in shown.reason


@pytest.mark.parametrize(
    ("how", "action"),
    [("set", "reset"), ("auto", "reset"), ("replug", "connect"), ("restart", "connect")],
)
def test_what_makes_it_try_again(how: str, action: str) -> None:
    site = site_with(S.CONNECTED, recovery_limit=0)
    site.status(S.ERROR)
    assert site.row.stopped
    boot = BOOT
    if how == "set":
        site.fleet.set_desired(KEY, Desired(level="connected"), accept=True)
    elif how == "auto":
        site.fleet.set_desired(KEY, None, accept=False)
    elif how == "replug":
        site.status(S.UNKNOWN, reason="unplugged")
        site.status(S.DISCOVERED)
    else:
        boot = NEW
        site.birth(NEW)
        site.beat(NEW)
        site.status(S.DISCOVERED, boot=NEW)
    assert not site.row.stopped
    assert site.row.attempts == 0
    site.beat(boot)
    assert site.action() == action


def test_sixty_healthy_seconds_wipe_the_slate() -> None:
    site = site_with(S.CONNECTED)
    site.status(S.ERROR)
    site.status(S.CONNECTED, streams=running("orchestrator"))
    site.beating(58)
    assert site.row.attempts == 1
    site.beating(5)
    assert site.row.attempts == 0


def test_a_clients_recovery_is_not_fought() -> None:
    site = site_with(S.CONNECTED)
    site.fleet.client_begins(KEY)
    site.status(S.ERROR, by="orchestrator")
    site.beating(10)
    assert site.action() is None
    site.fleet.client_ends(KEY, S.ERROR, site.now, failed=True)
    site.beating(4)
    assert site.action() is None
    site.beating(2)
    assert site.action() == "reset"


def test_after_a_clients_request_the_planner_waits_for_the_status_too() -> None:
    site = site_with(S.DISCONNECTED)
    site.fleet.client_begins(KEY)
    site.fleet.client_ends(KEY, S.CONNECTED, site.now, failed=False)
    assert site.action() is None
    site.status(S.CONNECTED)
    assert site.action() == "start"


def test_of_several_clients_the_last_one_ends_the_planners_wait() -> None:
    site = site_with(S.DISCONNECTED)
    site.fleet.client_begins(KEY)
    site.fleet.client_begins(KEY)
    site.fleet.client_ends(KEY, None, site.now, failed=False)
    assert site.action() is None
    site.fleet.client_ends(KEY, None, site.now, failed=False)
    site.fleet.client_ends(KEY, None, site.now, failed=False)
    assert site.row.clients == 0
    assert site.action() == "connect"


def test_where_a_clients_command_has_brought_it_the_client_has_its_turn() -> None:
    site = site_with(S.CONNECTED)
    site.status(S.ERROR, by="ann", operation="send")
    site.beating(4)
    assert site.action() is None
    site.beating(2)
    assert site.action() == "reset"


def test_an_unplugged_device_is_looked_for_now_and_then() -> None:
    site = site_with(S.DISCOVERED)
    site.status(S.UNKNOWN, reason="unplugged")
    scans = 0
    for _ in range(60):
        site.beating(1)
        if site.action() is not None:
            assert site.act() == "scan"
            site.finish()
            scans += 1
    assert scans == 6
    site.status(S.DISCOVERED)
    assert site.action() == "connect"


def test_a_quarantined_device_is_left_alone() -> None:
    site = site_with()
    site.act()
    site.finish(Code.QUARANTINED)
    site.beating(120)
    assert site.action() is None


def test_a_removed_row_takes_late_outcomes() -> None:
    site = site_with()
    site.fleet.begin(KEY, Action("initialize"))
    site.fleet.client_begins(KEY)
    site.fleet.remove(KEY)
    assert site.finish() == []
    assert site.fleet.client_ends(KEY, None, site.now, failed=False) == []
    assert site.action() is None
