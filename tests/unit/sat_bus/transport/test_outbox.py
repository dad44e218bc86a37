"""What waits to go out: what is kept, replaced, refused and dropped, and in which order it
leaves."""

from __future__ import annotations

import threading
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sat_bus.contract.topics import Traffic
from sat_bus.transport.outbox import MAX_PAYLOAD, WINDOW, FairQueue, Outbox, Outgoing

CONTROL, STATE, FRAMES = Traffic.CONTROL, Traffic.STATE, Traffic.FRAMES


def message(
    topic: str, traffic: Traffic = CONTROL, payload: bytes = b"x", drops: list[str] | None = None
) -> Outgoing:
    return Outgoing(
        topic, payload, traffic=traffic, on_drop=None if drops is None else drops.append
    )


def online(**limits: int) -> Outbox:
    outbox = Outbox(**limits)
    outbox.online()
    return outbox


def drain(outbox: Outbox) -> list[str]:
    """The topics in the order in which they go out, each acknowledged at once."""
    topics = []
    while (taken := outbox.take()) is not None:
        topics.append(taken.topic)
        outbox.done(taken)
    return topics


class TestOrder:
    def test_control_goes_first_then_state_then_frames(self) -> None:
        outbox = online()
        for topic, traffic in (
            ("f1", FRAMES),
            ("s1", STATE),
            ("c1", CONTROL),
            ("f2", FRAMES),
            ("c2", CONTROL),
        ):
            outbox.put(message(topic, traffic))
        assert drain(outbox) == ["c1", "c2", "s1", "f1", "f2"]

    @pytest.mark.parametrize("traffic", list(Traffic))
    def test_each_class_has_a_bounded_number_outstanding(self, traffic: Traffic) -> None:
        outbox = online()
        for number in range(50):
            outbox.put(message(str(number), traffic))
        taken = []
        while (next_one := outbox.take()) is not None:
            taken.append(next_one)
        assert len(taken) == WINDOW[traffic]
        outbox.done(taken[0])
        assert outbox.take() is not None
        assert outbox.take() is None

    def test_a_command_overtakes_any_queue_of_frames(self) -> None:
        outbox = online()
        for number in range(1_000):
            outbox.put(message(f"f{number}", FRAMES))
        while outbox.take() is not None:
            pass
        outbox.put(message("command"))
        taken = outbox.take()
        assert taken is not None
        assert taken.topic == "command"

    def test_never_more_outstanding_than_the_broker_allows(self) -> None:
        outbox = Outbox()
        outbox.online(room=2)
        for number in range(5):
            outbox.put(message(str(number)))
        taken = [outbox.take() for _ in range(5)]
        assert [one.topic for one in taken if one] == ["0", "1"]


class TestControl:
    def test_is_refused_when_the_queue_is_full(self) -> None:
        drops: list[str] = []
        outbox = online(control=2)
        assert [outbox.put(message(str(n), drops=drops)) for n in range(3)] == [True, True, False]
        assert drops == ["control_full"]
        assert outbox.dropped() == {"control_full": 1}
        assert drain(outbox) == ["0", "1"]

    def test_is_refused_while_offline_and_never_goes_out_later(self) -> None:
        outbox = Outbox()
        assert not outbox.put(message("late"))
        outbox.online()
        assert drain(outbox) == []
        assert outbox.dropped() == {"control_offline": 1}

    def test_that_waits_when_the_connection_is_lost_is_dropped(self) -> None:
        drops: list[str] = []
        outbox = online()
        outbox.put(message("sent", drops=drops))
        outbox.put(message("waits", drops=drops))
        assert outbox.take() is not None
        outbox.offline()
        outbox.online()
        assert drain(outbox) == []
        assert sorted(drops) == ["control_offline", "control_unacked"]


class TestState:
    def test_the_newest_of_a_topic_replaces_what_waits(self) -> None:
        outbox = Outbox()
        for payload in (b"1", b"2", b"3"):
            assert outbox.put(message("s", STATE, payload))
        assert outbox.put(message("other", STATE))
        outbox.online()
        first = outbox.take()
        assert first is not None
        assert first.payload == b"3"
        assert outbox.dropped() == {}
        assert outbox.lengths().state == 1

    def test_goes_out_again_when_its_fate_is_unknown(self) -> None:
        outbox = online()
        outbox.put(message("s", STATE, b"sent"))
        taken = outbox.take()
        assert taken is not None
        outbox.offline()
        outbox.done(taken)
        outbox.online()
        again = outbox.take()
        assert again is not None
        assert again.payload == b"sent"

    def test_a_newer_one_wins_over_what_was_outstanding(self) -> None:
        outbox = online()
        outbox.put(message("s", STATE, b"old"))
        outbox.take()
        outbox.put(message("s", STATE, b"new"))
        outbox.offline()
        outbox.online()
        only = outbox.take()
        assert only is not None
        assert only.payload == b"new"
        assert outbox.take() is None

    def test_is_bounded_by_the_number_of_topics(self) -> None:
        outbox = Outbox(state=2)
        assert [outbox.put(message(topic, STATE)) for topic in ("a", "b", "c", "a")] == [
            True,
            True,
            False,
            True,
        ]
        assert outbox.dropped() == {"state_full": 1}


class TestFrames:
    def test_the_oldest_are_dropped_beyond_the_bound_of_bytes(self) -> None:
        drops: list[str] = []
        outbox = online(frame_bytes=4 * 1_256)
        for number in range(6):
            assert outbox.put(message(str(number), FRAMES, bytes(1_000), drops))
        assert outbox.lengths().frame_bytes == 4 * 1_256
        assert drain(outbox) == ["2", "3", "4", "5"]
        assert drops == ["frames_full"] * 2
        assert outbox.dropped() == {"frames_full": 2}
        assert outbox.lengths().frame_bytes == 0

    def test_small_ones_are_bounded_too(self) -> None:
        outbox = online()
        for number in range(100_000):
            outbox.put(message(str(number), FRAMES, b""))
        assert outbox.lengths().frames <= (8 << 20) // 256

    def test_are_dropped_while_offline(self) -> None:
        drops: list[str] = []
        outbox = online()
        for number in range(6):
            outbox.put(message(str(number), FRAMES, drops=drops))
        for _ in range(2):
            outbox.take()
        outbox.offline()
        assert not outbox.put(message("late", FRAMES, drops=drops))
        assert sorted(drops) == ["frames_offline"] * 5 + ["frames_unacked"] * 2
        assert outbox.lengths().frame_bytes == 0


class TestFairness:
    """One topic floods; the streams beside it do not notice."""

    def test_a_flood_pushes_out_nothing_of_a_light_stream(self) -> None:
        lost: dict[str, list[str]] = {"flood": [], "light": []}
        outbox = online(frame_bytes=20 * 1_256)
        for number in range(1_000):
            outbox.put(message("flood", FRAMES, bytes(1_000), lost["flood"]))
            if number % 100 == 0:
                outbox.put(message("light", FRAMES, b"%d" % number, lost["light"]))
        assert len(lost["flood"]) > 900
        assert lost["light"] == []
        assert outbox.dropped() == {"frames_full": len(lost["flood"])}
        assert outbox.lengths().frame_bytes <= 20 * 1_256
        assert drain(outbox).count("light") == 10

    @pytest.mark.parametrize("floods", [1, 7])
    def test_a_light_stream_waits_for_one_round_at_most(self, floods: int) -> None:
        outbox = online()
        for number in range(100 * floods):
            outbox.put(message(f"flood{number % floods}", FRAMES))
        while (
            taken := outbox.take()
        ) is not None:  # until the window is full, in the midst of a round
            last = taken
        outbox.put(message("light", FRAMES))
        outbox.done(last)
        assert "light" in drain(outbox)[: floods + 1]

    def test_topics_take_turns_and_keep_their_order(self) -> None:
        outbox = online()
        for topic, payload in (
            ("a", b"1"),
            ("a", b"2"),
            ("a", b"3"),
            ("b", b"4"),
            ("c", b"5"),
            ("b", b"6"),
        ):
            outbox.put(message(topic, FRAMES, payload))
        out = []
        while (taken := outbox.take()) is not None:
            out.append(taken.payload)
            outbox.done(taken)
        assert out == [b"1", b"4", b"5", b"2", b"6", b"3"]

    def test_a_few_large_messages_weigh_more_than_many_small_ones(self) -> None:
        outbox = online(frame_bytes=12_000)
        for _ in range(10):
            outbox.put(message("small", FRAMES, b""))
        for _ in range(2):
            outbox.put(message("large", FRAMES, bytes(4_000)))
        outbox.put(message("new", FRAMES, bytes(1_000)))
        assert sorted(drain(outbox)) == ["large", "new", *["small"] * 10]

    def test_a_message_larger_than_the_bound_goes_out_alone(self) -> None:
        outbox = online(frame_bytes=1_000)
        for topic in ("a", "b"):
            assert outbox.put(message(topic, FRAMES, bytes(2_000)))
        assert drain(outbox) == ["b"]

    @given(
        st.lists(
            st.tuples(
                st.sampled_from("abcd"),
                st.sampled_from(["put", "put", "take", "drop"]),
                st.integers(0, 3),
            )
        )
    )
    def test_it_does_what_a_plain_search_would(self, steps: list[tuple[str, str, int]]) -> None:
        """Against the obvious way to do it: look at all topics each time."""
        queue, plain = FairQueue(), dict[str, deque[Outgoing]]()
        for topic, step, size in steps:
            if step == "put":
                new = message(topic, FRAMES, bytes(1_000 * size))
                queue.put(new)
                plain.setdefault(topic, deque()).append(new)
            elif plain:
                weights = {name: sum(one.size for one in lane) for name, lane in plain.items()}
                if step == "take":
                    out = queue.take()
                    chosen = next(iter(plain))
                    plain[chosen] = plain.pop(chosen)
                else:
                    out = queue.drop()
                    chosen = out.topic
                    assert weights[chosen] == max(weights.values())
                assert out is plain[chosen].popleft()
                if not plain[chosen]:
                    del plain[chosen]
            assert list(queue) == [one for lane in plain.values() for one in lane]
            assert queue.bytes == sum(one.size for one in queue)
            assert len(queue) == len(list(queue))

    def test_its_memory_is_that_of_what_waits(self) -> None:
        queue = FairQueue()
        for number in range(10_000):
            queue.put(message(f"gone{number}", FRAMES))
            queue.put(message("stays", FRAMES))
            queue.take()
            queue.take()
        assert len(queue) == 0
        assert len(queue._heap) < 100


class TestBounds:
    @pytest.mark.parametrize("traffic", list(Traffic))
    def test_no_payload_beyond_256_kb(self, traffic: Traffic) -> None:
        outbox = online()
        assert not outbox.put(message("big", traffic, bytes(MAX_PAYLOAD + 1)))
        assert outbox.put(message("fits", traffic, bytes(MAX_PAYLOAD)))
        assert outbox.dropped() == {"oversize": 1}

    def test_a_message_that_the_broker_refused_is_counted(self) -> None:
        drops: list[str] = []
        outbox = online()
        outbox.put(message("secret", drops=drops))
        taken = outbox.take()
        assert taken is not None
        outbox.done(taken, "refused")
        outbox.done(taken, "refused")
        assert drops == ["refused"]
        assert outbox.dropped() == {"refused": 1}

    def test_an_on_drop_that_raises_harms_nobody(self, caplog: pytest.LogCaptureFixture) -> None:
        outbox = Outbox()
        assert not outbox.put(Outgoing("x", b"", on_drop=lambda cause: [][0]))
        assert "on_drop of a message to x failed" in caplog.text

    def test_an_on_drop_may_publish(self) -> None:
        outbox = online(control=1)

        def publish(cause: str) -> None:
            outbox.put(message(cause, STATE))

        outbox.put(message("first"))
        assert not outbox.put(Outgoing("x", b"", on_drop=publish))
        assert drain(outbox) == ["first", "control_full"]


class TestFlush:
    def test_waits_for_what_is_outstanding(self) -> None:
        outbox = online()
        outbox.put(message("x"))
        taken = outbox.take()
        assert taken is not None
        assert not outbox.flush(0.02)
        threading.Timer(0.02, outbox.done, [taken]).start()
        assert outbox.flush(5)

    def test_of_nothing_is_done(self) -> None:
        assert Outbox().flush(0)
