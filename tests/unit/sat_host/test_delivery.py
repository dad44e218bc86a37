"""How streams are delivered: delivery joined, and frames thinned by id."""

from __future__ import annotations

from typing import Any

import pytest

from sat_host.delivery import Delivery, DeliveryChanges, Thinner
from sat_toolkit.core.frame_block import FrameBlock


def test_a_fresh_start_has_what_it_wishes_and_the_defaults_for_the_rest() -> None:
    delivery = Delivery(("json",), 10).with_changes(
        DeliveryChanges(("bin",), max_hz=5), running=False
    )
    assert (delivery.formats, delivery.window_ms, delivery.max_hz) == (("bin",), 10, 5)
    assert delivery.forms_of("can") == ("bin",)
    assert delivery.forms_of("uart") == ("json",)


def test_a_start_while_it_runs_adds_a_form_and_takes_none_away() -> None:
    delivery = Delivery(("json",), 10).with_changes(
        DeliveryChanges(("bin",), window_ms=50), running=True
    )
    assert (delivery.formats, delivery.window_ms) == (("json", "bin"), 50)


def test_a_start_that_says_nothing_changes_nothing() -> None:
    delivery = Delivery(("json",), 20, 5.0)
    for running in (True, False):
        assert delivery.with_changes(DeliveryChanges(), running=running) == delivery


@pytest.mark.parametrize(
    ("max_hz", "passed"),
    [(100, 100), (1000, 1000), ({"0x10": 10}, 10), ({"16": 10}, 10), ({"1": 1}, 1000)],
)
def test_frames_go_through_so_often_at_the_most(max_hz: Any, passed: int) -> None:
    thinner = Thinner(max_hz)
    assert sum(thinner.passes(16, 5000.0 + n / 1000) for n in range(1000)) == passed


def test_a_clock_that_is_set_back_does_not_silence_an_id() -> None:
    thinner = Thinner(1)
    assert thinner.passes(1, 1e9)
    assert thinner.passes(1, 1e9 - 3600)
    assert not thinner.passes(1, 1e9 - 3599.5)


def test_a_block_of_which_all_frames_pass_is_not_copied() -> None:
    block = FrameBlock.pack([{"t": 1.0, "id": n} for n in range(5)])
    assert Thinner(1).thin(block) is block
    assert [f["id"] for f in Thinner({"3": 1}).thin(FrameBlock(bytes(block.records) * 2)).frames()] == [
        0, 1, 2, 3, 4, 0, 1, 2, 4,
    ]  # fmt: skip
