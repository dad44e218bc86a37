"""Errors: each code is one class, which is rebuilt from the code on the far side."""

from __future__ import annotations

import pytest

from sat_toolkit.errors import Code, CommandFailed, DriverError, Internal, from_code


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_a_class_that_carries_it(code: Code) -> None:
    error = from_code(code.value, "text")
    assert error.code is code
    assert str(error) == "text"
    assert code is Code.INTERNAL or type(error) is not Internal


def test_a_code_of_a_newer_peer_is_internal_and_still_named() -> None:
    assert str(from_code("from_the_future", "text")) == "from_the_future: text"


def test_a_failed_command_and_a_failed_driver_look_the_same_on_the_wire() -> None:
    assert CommandFailed("x").code is DriverError("x").code is Code.DRIVER_ERROR
