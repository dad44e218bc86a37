"""The keeper: the database holds what the fleet holds, sooner or later, and first where a client
waits."""

from __future__ import annotations

from sat_bus.contract.messages import Desired, StreamStatus
from sat_bus.service.tasks import Promise, start
from sat_orchestrator.fleet.table import Record
from sat_orchestrator.store.database import Kept
from sat_toolkit.errors import Internal
from tests.unit.sat_orchestrator.parts import KEY, Parts, S

CONNECTED = Desired(level="connected")
CLOSED = Desired(level="disconnected")


def known() -> Parts:
    parts = Parts(leading=False)
    parts.host_up()
    parts.device(S.CONNECTED)
    return parts


def saving(parts: Parts, desired: Desired | None = CONNECTED) -> Promise[None]:
    return start(parts.loop, parts.keeper.save(KEY, desired, accept=True))


def explicit(parts: Parts) -> list[Desired | None]:
    return [record.explicit for record in parts.store.saved]


def test_what_is_desired_is_stored_with_what_else_is_known_and_nothing_changes_yet() -> None:
    parts = known()
    parts.row.streams_seen["can"] = "s1/running/ann"
    promise = saving(parts)
    assert promise.settled
    assert parts.store.saved == [
        Record(KEY, None, CONNECTED, {"can": "s1/running/ann"}, S.CONNECTED, 1)
    ]
    assert parts.row.explicit is None


def test_a_write_that_fails_is_an_error_with_its_reason() -> None:
    parts = known()
    parts.store.slow = True
    failures: list[str] = []

    async def save() -> None:
        try:
            await parts.keeper.save(KEY, CONNECTED, accept=True)
        except Internal as error:
            failures.append(str(error))

    start(parts.loop, save())
    assert failures == []
    parts.store.settle("disk full")
    assert failures == ["what is desired could not be stored: disk full"]


def test_what_was_stored_and_is_in_force_is_not_stored_again() -> None:
    parts = known()
    saving(parts)
    parts.fleet.set_desired(KEY, CONNECTED, accept=True)
    parts.keeper.save_again()
    assert explicit(parts) == [CONNECTED]
    parts.status(S.ACTIVE)  # what was observed is not kept for sure
    parts.keeper.save_again()
    assert len(parts.store.saved) == 1


def test_what_was_stored_and_withdrawn_is_overwritten() -> None:
    parts = known()
    saving(parts)
    parts.keeper.save_again()
    assert explicit(parts) == [CONNECTED, None]
    parts.keeper.save_again()
    assert len(parts.store.saved) == 2


def test_what_clients_do_is_stored_by_and_by() -> None:
    parts = known()
    parts.fleet.set_desired(KEY, CONNECTED, accept=False)
    stream = StreamStatus(state="running", stream="s1", by="ann", args={"fd": True})
    parts.status(S.CONNECTED, streams={"can": stream})
    parts.keeper.save_again()
    assert explicit(parts) == [Desired(level="connected", streams={"can": {"fd": True}})]


def test_nothing_is_stored_beside_a_client_or_a_write_that_is_under_way() -> None:
    parts = known()
    parts.fleet.set_desired(KEY, CONNECTED, accept=False)
    parts.fleet.client_begins(KEY)
    parts.keeper.save_again()
    assert parts.store.saved == []
    parts.fleet.client_ends(KEY, None, 0.0, failed=False)
    parts.store.slow = True
    parts.keeper.save_again()
    parts.keeper.save_again()
    assert len(parts.store.saved) == 1
    parts.store.settle()
    parts.keeper.save_again()
    assert len(parts.store.saved) == 1


def test_after_a_failure_five_seconds_pass_before_the_next_try() -> None:
    parts = known()
    parts.fleet.set_desired(KEY, CONNECTED, accept=False)
    parts.store.failure = "disk full"
    parts.keeper.save_again()
    parts.clock.now += 4.9
    parts.keeper.save_again()
    assert len(parts.store.saved) == 1
    parts.clock.now += 0.1
    parts.store.failure = ""
    parts.keeper.save_again()
    parts.clock.now += 60.0
    parts.keeper.save_again()
    assert len(parts.store.saved) == 2


def test_a_failure_that_a_client_was_told_of_does_not_delay_the_rest() -> None:
    parts = known()
    parts.store.failure = "disk full"
    saving(parts)
    parts.store.failure = ""
    parts.fleet.set_desired(KEY, CLOSED, accept=False)
    parts.keeper.save_again()
    assert explicit(parts) == [CONNECTED, CLOSED]


def test_what_the_database_had_is_taken_over_and_not_stored_again() -> None:
    parts = Parts(leading=False)
    record = Record(KEY, "serial-1", CLOSED, {"can": "s1/running/ann"}, S.CONNECTED, 7)
    parts.keeper.load(Kept([record], 3))
    assert (parts.row.explicit, parts.row.hardware_id) == (CLOSED, "serial-1")
    assert parts.row.last_known is S.CONNECTED
    parts.keeper.save_again()
    assert parts.store.saved == []
    parts.fleet.set_desired(KEY, None, accept=False)
    parts.keeper.save_again()
    assert explicit(parts) == [None]


def test_what_is_observed_is_noted_when_it_changes_and_when_it_is_certain() -> None:
    parts = known()
    parts.keeper.note_observed()
    parts.keeper.note_observed()
    assert parts.store.seen == [(KEY, S.CONNECTED, 1)]
    parts.status(S.CONNECTED)
    parts.keeper.note_observed()
    assert parts.store.seen[1:] == [(KEY, S.CONNECTED, 2)]
    parts.host_gone()
    parts.keeper.note_observed()
    assert len(parts.store.seen) == 2
    parts.fleet.status(KEY, None, 0.0, retained=False)
    parts.row.quality = "good"
    parts.keeper.note_observed()
    assert len(parts.store.seen) == 2


def test_a_forgotten_device_is_deleted_and_noted_anew() -> None:
    parts = known()
    parts.keeper.note_observed()
    saving(parts)
    parts.fleet.set_desired(KEY, CONNECTED, accept=False)
    parts.keeper.forget(KEY)
    assert parts.store.deleted == [KEY]
    parts.keeper.note_observed()
    assert len(parts.store.seen) == 2
    parts.keeper.save_again()
    assert explicit(parts) == [CONNECTED, CONNECTED]


def test_a_write_for_a_device_that_was_forgotten_meanwhile_leaves_nothing_behind() -> None:
    parts = known()
    parts.store.slow = True
    saving(parts)
    parts.fleet.remove(KEY)
    parts.keeper.forget(KEY)
    parts.store.settle()
    parts.store.slow = False
    parts.device(S.CONNECTED)
    parts.fleet.set_desired(KEY, CONNECTED, accept=False)
    parts.keeper.save_again()
    assert explicit(parts) == [CONNECTED, CONNECTED]
