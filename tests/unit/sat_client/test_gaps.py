"""Which frames are missing and why, told from the headers of batches alone."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sat_client.gaps import BatchNews, Cursor, Fallen, Gap, Head


def head(
    seq: int, n: int, stream: str = "s1", boot: str = "b1", form: str = "json", **dropped: int
) -> Head:
    return Head(form, boot, stream, seq, n, dropped)


def gaps(cursor: Cursor, *heads: Head) -> list[Gap | None]:
    steps = [cursor.advance(one) for one in heads]
    assert None not in steps
    return [step.gap for step in steps if step]


def step(cursor: Cursor, one: Head) -> BatchNews:
    found = cursor.advance(one)
    assert found is not None
    return found


def test_consecutive_batches_miss_nothing() -> None:
    assert gaps(Cursor(), head(0, 5), head(5, 5), head(10, 5)) == [None] * 3


def test_a_hole_is_told_with_its_exact_range() -> None:
    *_, gap = gaps(Cursor(), head(0, 5), head(12, 3))
    assert gap == Gap(5, 7, {"transport": 7})
    assert gap.last == 11


def test_a_hole_that_the_host_explains_has_its_causes() -> None:
    *_, gap = gaps(Cursor(), head(0, 5, kernel=1), head(15, 3, kernel=5, worker=4))
    assert gap == Gap(5, 10, {"kernel": 4, "worker": 4, "transport": 2})


def test_a_running_stream_is_joined_where_it_is() -> None:
    assert Cursor().advance(head(1000, 5, queue=7)) == BatchNews(0, None, {}, {})


def test_a_stream_is_followed_from_its_start_where_that_is_wanted() -> None:
    assert gaps(Cursor(from_start=True), head(3, 5)) == [Gap(0, 3, {"transport": 3})]


def test_a_later_stream_is_followed_from_its_first_frame() -> None:
    *_, gap = gaps(Cursor(), head(1000, 5), head(3, 5, stream="s2", queue=2))
    assert gap == Gap(0, 3, {"queue": 2, "transport": 1})


def test_a_new_boot_is_a_new_stream_even_under_the_same_id() -> None:
    assert gaps(Cursor(), head(100, 5), head(0, 5, boot="b2")) == [None, None]


def test_an_empty_batch_shows_a_hole_at_the_end_of_a_burst() -> None:
    assert gaps(Cursor(), head(0, 5), head(9, 0))[1] == Gap(5, 4, {"transport": 4})


def test_a_repetition_is_no_hole_and_no_new_frames() -> None:
    cursor = Cursor()
    assert gaps(cursor, head(0, 5, kernel=1), head(9, 5, kernel=5)) == [
        None,
        Gap(5, 4, {"kernel": 4}),
    ]
    assert cursor.advance(head(0, 5, kernel=1)) is None
    assert cursor.advance(head(5, 0, kernel=1)) is None
    assert step(cursor, head(14, 5, kernel=5)) == BatchNews(0, None, {}, {})


def test_frames_that_had_arrived_already_are_told() -> None:
    cursor = Cursor()
    cursor.advance(head(0, 5))
    assert step(cursor, head(3, 5)).known == 2


def test_a_drop_that_is_told_before_its_hole_explains_it() -> None:
    cursor = Cursor()
    cursor.advance(head(0, 5))
    assert step(cursor, head(5, 5, worker=3)) == BatchNews(0, None, {"worker": 3}, {})
    assert step(cursor, head(13, 5, worker=3)).gap == Gap(10, 3, {"worker": 3})


def test_a_drop_that_is_told_after_its_hole_explains_it_then() -> None:
    cursor = Cursor()
    cursor.advance(head(0, 5))
    assert step(cursor, head(9, 5)).gap == Gap(5, 4, {"transport": 4})
    assert step(cursor, head(14, 5, frames_full=3)) == BatchNews(
        0, None, {"frames_full": 3}, {"frames_full": 3}
    )
    assert step(cursor, head(19, 5, frames_full=9)).explained == {"frames_full": 1}


def test_a_drop_explains_the_newest_hole_first_and_a_doubtful_one_last() -> None:
    cursor = Cursor()
    cursor.advance(head(0, 5))
    cursor.advance(head(10, 5))
    found = step(cursor, head(17, 5, frames_unacked=9, kernel=3))
    assert found.gap == Gap(15, 2, {"kernel": 2})
    assert found.explained == {"kernel": 1, "frames_unacked": 4}


def test_what_fell_out_of_the_own_queue_is_told_apart() -> None:
    cursor = Cursor()
    cursor.advance(head(0, 5))
    fallen = Fallen.of(head(13, 5, kernel=3), Fallen.of(head(5, 5), None))
    cursor.pass_over(fallen)
    assert step(cursor, head(20, 5, kernel=3)) == BatchNews(
        0, Gap(5, 15, {"client": 10, "kernel": 3, "transport": 2}), {"kernel": 3}, {}
    )


def test_a_stream_whose_first_batches_fell_out_is_joined_at_them() -> None:
    cursor = Cursor()
    cursor.pass_over(Fallen.of(head(100, 5), None))
    assert step(cursor, head(105, 5)).gap == Gap(100, 5, {"client": 5})


def test_a_repetition_that_falls_out_is_nothing() -> None:
    cursor = Cursor()
    cursor.advance(head(0, 5))
    cursor.pass_over(Fallen.of(head(0, 5), None))
    assert step(cursor, head(5, 5)).gap is None


def test_a_repetition_among_what_fell_out_counts_once() -> None:
    cursor = Cursor()
    cursor.advance(head(0, 5))
    fallen = Fallen.of(head(0, 5), None)
    for one in (head(5, 5), head(6, 2), head(13, 5)):
        fallen = Fallen.of(one, fallen)
    cursor.pass_over(fallen)
    assert cursor.advance(head(13, 5)) is None
    assert step(cursor, head(18, 5)).gap == Gap(5, 13, {"client": 10, "transport": 3})


def test_what_is_remembered_of_what_fell_out_is_bounded() -> None:
    fallen: Fallen | None = None
    for seq in range(0, 10_000, 10):
        fallen = Fallen.of(head(seq, 5), fallen)
    assert fallen is not None
    assert len(fallen.ranges) <= 257
    cursor = Cursor()
    cursor.pass_over(fallen)
    gap = step(cursor, head(10_000, 1)).gap
    assert gap is not None
    assert (gap.first, gap.count, sum(gap.causes.values())) == (0, 10_000, 10_000)


def test_what_had_arrived_and_falls_out_again_in_part_counts_in_part() -> None:
    cursor = Cursor()
    cursor.advance(head(0, 8))
    cursor.pass_over(Fallen.of(head(5, 5), None))
    assert step(cursor, head(10, 5)).gap == Gap(8, 2, {"client": 2})


def test_totals_of_an_older_message_are_no_news_and_neither_is_their_return() -> None:
    cursor = Cursor(from_start=True)
    assert step(cursor, head(0, 5, kernel=5)).dropped == {"kernel": 5}
    assert step(cursor, head(5, 5, kernel=3)).dropped == {}
    assert step(cursor, head(10, 5, kernel=5)).dropped == {}


def test_of_both_forms_bin_is_followed_as_soon_as_it_has_caught_up() -> None:
    cursor = Cursor()
    assert cursor.advance(head(0, 5))
    assert (
        cursor.advance(head(10, 5, form="bin")) is None
    )  # ahead: json still brings what is between
    assert cursor.advance(head(5, 10))
    assert cursor.advance(head(10, 5, form="bin", bus=7)) is None
    assert step(cursor, head(16, 5, form="bin", bus=7, kernel=1)).gap == Gap(15, 1, {"kernel": 1})
    assert cursor.advance(head(21, 5)) is None
    assert step(cursor, head(21, 5, form="bin", bus=8, kernel=1)).dropped == {"bus": 1}


@pytest.mark.parametrize("seed", range(20))
def test_received_and_missed_by_cause_add_up_to_the_numbers_whatever_happens(seed: int) -> None:
    """Frames are lost before the host numbers on, in its queue, on the way, and in the reader's
    queue; every batch is followed to the end. What is told as lost at each place is what was lost
    there."""
    rng = random.Random(seed)
    cursor = Cursor(from_start=True)
    told: dict[str, Any] = {"kernel": 0, "frames_full": 0}
    lost = {"kernel": 0, "frames_full": 0, "transport": 0, "client": 0}
    got: dict[str, int] = {}
    received = seq = late = 0
    fallen: Fallen | None = None

    def read(one: Head) -> None:
        nonlocal received, fallen
        if fallen is not None:
            cursor.pass_over(fallen)
            fallen = None
        found = step(cursor, one)
        received += one.n - found.known
        for cause, count in (found.gap.causes if found.gap else {}).items():
            got[cause] = got.get(cause, 0) + count
        for cause, count in found.explained.items():
            got[cause] = got.get(cause, 0) + count
            got["transport"] -= count

    for _ in range(200):
        if rng.random() < 0.1:
            kernel = rng.randint(1, 9)
            seq += kernel
            told["kernel"] += kernel
            lost["kernel"] += kernel
        told["frames_full"] += late
        late = 0
        one = head(seq, rng.randint(0, 9), **told)
        seq += one.n
        fate = rng.random()
        if fate < 0.1:
            lost["frames_full"] += one.n
            late = one.n
        elif fate < 0.2:
            lost["transport"] += one.n
        elif fate < 0.3:
            lost["client"] += one.n
            fallen = Fallen.of(one, fallen)
        else:
            read(one)
    told["frames_full"] += late
    read(head(seq, 0, **told))
    assert {cause: got.get(cause, 0) for cause in lost} == lost
    assert received + sum(got.values()) == seq
