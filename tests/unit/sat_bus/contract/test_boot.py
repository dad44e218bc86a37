"""Boots: made, read, compared."""

from __future__ import annotations

import pytest

from sat_bus.contract.boot import boot_time, is_newer, new_boot
from sat_toolkit.errors import BadRequest


def test_a_boot_tells_its_time() -> None:
    boot = new_boot(1_700_000_000_123, b"\x0a\xff")
    assert boot == "1700000000123-0aff"
    assert boot_time(boot) == 1_700_000_000_123


def test_the_later_start_is_newer() -> None:
    earlier, later = new_boot(999, b"\xff"), new_boot(1000, b"\x00")
    assert is_newer(later, earlier)
    assert not is_newer(earlier, later)
    assert not is_newer(later, later)


def test_two_of_one_millisecond_are_ordered_alike_on_both_sides() -> None:
    one, other = new_boot(5, b"\x01"), new_boot(5, b"\x02")
    assert is_newer(one, other) != is_newer(other, one)


@pytest.mark.parametrize(
    "boot", ["", "abc", "12", "-aa", "12-XY", "12-aa\n", "12-", "1" * 16 + "-aa"]
)
def test_refuses_what_is_no_boot(boot: str) -> None:
    with pytest.raises(BadRequest, match="is accepted"):
        boot_time(boot)


@pytest.mark.parametrize("random", [b"", b"x" * 17])
def test_refuses_randomness_of_another_length(random: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 16"):
        new_boot(1, random)
