"""The recorder: every wait ends, and says what came."""

from __future__ import annotations

import threading

import pytest

from sat_toolkit.testing import Recorder
from tests.unit.sdk_fakes import datum


def test_frames_are_waited_for_and_may_be_chosen() -> None:
    recorder = Recorder()
    for data in ("a", "b", "a", "c"):
        recorder.data(datum(data=data))
    assert [frame.data for frame in recorder.wait_frames(2, lambda frame: frame.data == "a")] == [
        "a",
        "a",
    ]
    assert [frame.data for frame in recorder.wait_frames(1, after=3)] == ["c"]


def test_a_frame_that_comes_later_ends_the_wait() -> None:
    recorder = Recorder()
    timer = threading.Timer(0.01, recorder.data, [datum(data="late")])
    timer.start()
    assert recorder.wait_frames()[0].data == "late"
    timer.join()


def test_waits_have_an_end_that_says_what_came() -> None:
    recorder = Recorder()
    recorder.data(datum(data="a"))
    recorder.opened("dev0")
    with pytest.raises(TimeoutError, match=r"1 of 2 frames came within 0\.01 s"):
        recorder.wait_frames(2, timeout=0.01)
    with pytest.raises(TimeoutError, match="and 1 that do not match"):
        recorder.wait_frames(1, lambda frame: False, timeout=0.01)
    with pytest.raises(TimeoutError, match="did not fail"):
        recorder.wait_failure(timeout=0.01)
    with pytest.raises(TimeoutError, match="still open"):
        recorder.wait_closed("dev0", timeout=0.01)


def test_a_dead_loop_ends_the_wait_for_frames() -> None:
    recorder = Recorder()
    recorder.failed("the port is gone")
    with pytest.raises(TimeoutError, match="0 of 1 frames came before it failed: the port is gone"):
        recorder.wait_frames(timeout=60)
    assert recorder.wait_failure() == "the port is gone"
