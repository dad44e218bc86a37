"""What every adapter of the bus does alike."""

from __future__ import annotations

import threading

import pytest

from sat_bus.contract.topics import Traffic
from sat_bus.transport.bus import Inbound, Will
from sat_toolkit.errors import BadRequest
from tests.contract.conftest import System
from tests.waiting import Inbox, eventually

FRAMES = "sat/1/lab/dev/h/drv/d/stream/can/json"


def payloads(inbox: Inbox[Inbound]) -> list[bytes]:
    return [message.payload for message in inbox.items]


class TestBus:
    def test_delivers_in_order_of_publishing(self, system: System) -> None:
        sender, receiver = system.bus("sender"), system.bus("receiver", start=False)
        inbox: Inbox[Inbound] = Inbox()
        receiver.subscribe("a/+", inbox)
        assert receiver.start(5)
        for number in range(300):
            assert sender.publish("a/x", b"%d" % number)
        inbox.wait(300)
        assert payloads(inbox) == [b"%d" % number for number in range(300)]
        assert not any(message.retain for message in inbox.items)

    def test_delivers_what_was_subscribed_to_while_connected(self, system: System) -> None:
        bus = system.bus("one")
        inbox: Inbox[Inbound] = Inbox()
        bus.subscribe("a/b", inbox)
        bus.publish("a/b", b"own")
        assert inbox.wait()[0].payload == b"own"

    def test_qos_0_arrives_too(self, system: System) -> None:
        bus = system.bus("one")
        inbox: Inbox[Inbound] = Inbox()
        bus.subscribe("a/b", inbox, qos=0)
        bus.publish("a/b", b"beat", qos=0)
        assert inbox.wait()[0].payload == b"beat"
        assert bus.flush(5)

    def test_gives_a_message_to_each_subscription_that_catches_it(self, system: System) -> None:
        bus = system.bus("one")
        wide: Inbox[Inbound] = Inbox()
        narrow: Inbox[Inbound] = Inbox()
        other: Inbox[Inbound] = Inbox()
        bus.subscribe("a/#", wide)
        bus.subscribe("a/+/c", narrow)
        bus.subscribe("b/#", other)
        bus.publish("a/b/c", b"1")
        wide.wait()
        narrow.wait()
        bus.publish("b/end", b"2")
        other.wait()
        if system.once_for_overlaps:
            assert (len(wide.items), len(narrow.items)) == (1, 1)
        assert len(other.items) == 1

    def test_a_second_subscription_to_a_filter_replaces_the_handler(self, system: System) -> None:
        bus = system.bus("one")
        first: Inbox[Inbound] = Inbox()
        second: Inbox[Inbound] = Inbox()
        bus.subscribe("a/b", first)
        bus.subscribe("a/b", second)
        bus.publish("a/b", b"x")
        second.wait()
        assert first.items == []

    def test_unsubscribe_ends_a_subscription(self, system: System) -> None:
        bus = system.bus("one")
        gone: Inbox[Inbound] = Inbox()
        kept: Inbox[Inbound] = Inbox()
        bus.subscribe("a", gone)
        bus.subscribe("b", kept)
        bus.publish("a", b"1")
        gone.wait()
        bus.unsubscribe("a")
        bus.publish("a", b"2")
        bus.publish("b", b"3")
        kept.wait()
        assert payloads(gone) == [b"1"]

    def test_a_late_subscriber_gets_what_is_retained(self, system: System) -> None:
        sender, receiver = system.bus("sender"), system.bus("receiver")
        live: Inbox[Inbound] = Inbox()
        late: Inbox[Inbound] = Inbox()
        sender.subscribe("s/#", live)
        sender.publish("s/x", b"old", retain=True, traffic=Traffic.STATE)
        live.wait(1)
        sender.publish("s/x", b"new", retain=True, traffic=Traffic.STATE)
        live.wait(2)
        receiver.subscribe("s/+", late)
        assert [(m.payload, m.retain) for m in late.wait()] == [(b"new", True)]
        assert [(m.payload, m.retain) for m in live.items] == [(b"old", False), (b"new", False)]

    def test_clearing_a_retained_topic_reaches_subscribers_as_an_empty_payload(
        self, system: System
    ) -> None:
        sender, receiver = system.bus("sender"), system.bus("receiver")
        live: Inbox[Inbound] = Inbox()
        late: Inbox[Inbound] = Inbox()
        sender.subscribe("s/x", live)
        sender.publish("s/x", b"up", retain=True, traffic=Traffic.STATE)
        live.wait(1)
        sender.publish("s/x", b"", retain=True, traffic=Traffic.STATE)
        last = live.wait(2)[-1]
        assert (last.payload, last.retain) == (b"", False)
        receiver.subscribe("s/#", late)
        receiver.publish("s/end", b"end")
        assert late.wait()[0].payload == b"end"

    def test_newcomers_get_nothing_that_only_others_subscribed_to(self, system: System) -> None:
        watcher = system.bus("watcher")
        seen: Inbox[Inbound] = Inbox()
        watcher.subscribe("s/#", seen)
        watcher.publish("s/x", b"1", retain=True, traffic=Traffic.STATE)
        seen.wait()
        newcomer = system.bus("newcomer", start=False)
        inbox: Inbox[Inbound] = Inbox()
        newcomer.subscribe("other/#", inbox)
        assert newcomer.start(5)
        newcomer.publish("other/end", b"end")
        inbox.wait()
        assert [message.topic for message in inbox.items] == ["other/end"]
        assert newcomer.stats().inbox == 0

    def test_a_handler_may_publish_and_one_that_raises_harms_nobody(self, system: System) -> None:
        server, client = system.bus("server"), system.bus("client")
        replies: Inbox[Inbound] = Inbox()

        def serve(message: Inbound) -> None:
            if message.payload == b"bad":
                raise RuntimeError("a fault of the handler")
            server.publish("reply", message.payload.upper())

        server.subscribe("ask", serve)
        client.subscribe("reply", replies)
        assert eventually(lambda: client.publish("ask", b"warm") and bool(replies.items))
        before = len(replies.items)
        client.publish("ask", b"bad")
        client.publish("ask", b"good")
        replies.wait_for(lambda items: items[-1].payload == b"GOOD")
        assert len(replies.items) >= before + 1
        assert server.stats().dropped["handler_error"] == 1
        assert server.connected

    def test_a_lost_client_leaves_its_will(self, system: System) -> None:
        watcher = system.bus("watcher")
        states: Inbox[Inbound] = Inbox()
        watcher.subscribe("state/#", states)
        lost = system.bus("lost", will=Will("state/lost", b"offline"))
        system.cut("lost")
        message = states.wait()[0]
        assert (message.topic, message.payload, message.retain) == ("state/lost", b"offline", False)
        late: Inbox[Inbound] = Inbox()
        watcher.subscribe("state/lost", late)
        assert late.wait()[0].retain
        assert eventually(lambda: lost.connected)

    def test_a_client_that_closes_leaves_no_will(self, system: System) -> None:
        watcher = system.bus("watcher")
        seen: Inbox[Inbound] = Inbox()
        watcher.subscribe("s/#", seen)
        system.bus("leaver", will=Will("s/will", b"offline")).close()
        following = system.bus("next", will=Will("s/will", b"next"))
        following.publish("s/end", b"end")
        assert following.flush(5)
        system.cut("next")
        seen.wait(2)
        assert payloads(seen) == [b"end", b"next"]

    def test_a_connection_that_was_cut_comes_back_with_its_subscriptions(
        self, system: System
    ) -> None:
        bus, other = system.bus("bus", start=False), system.bus("other")
        inbox: Inbox[Inbound] = Inbox()
        news: Inbox[bool] = Inbox()
        bus.subscribe("a", inbox)
        bus.on_connection(news)
        assert bus.start(5)
        assert news.wait() == [True]
        system.cut("bus")
        assert news.wait(3) == [True, False, True]
        assert bus.connected
        other.publish("a", b"after")
        assert inbox.wait()[-1].payload == b"after"
        assert bus.stats().reconnects == 1

    def test_offline_refuses_control_drops_frames_and_keeps_the_newest_state(
        self, system: System
    ) -> None:
        bus = system.bus("bus")
        news: Inbox[bool] = Inbox()
        inbox: Inbox[Inbound] = Inbox()
        causes: Inbox[str] = Inbox()
        bus.on_connection(news)
        bus.subscribe("#", inbox)
        system.stop()
        news.wait_for(lambda items: items[-1:] == [False])
        assert not bus.connected
        assert not bus.publish("c", b"late command", on_drop=causes)
        assert not bus.publish(FRAMES, b"late frame", traffic=Traffic.FRAMES, on_drop=causes)
        assert bus.publish("s", b"old", retain=True, traffic=Traffic.STATE)
        assert bus.publish("s", b"new", retain=True, traffic=Traffic.STATE)
        assert causes.items == ["control_offline", "frames_offline"]
        assert not bus.flush(0.05)
        system.start()
        assert inbox.wait()[0].payload == b"new"
        assert bus.publish("end", b"end")
        inbox.wait_for(lambda items: items[-1].topic == "end")
        assert {message.topic for message in inbox.items} == {"s", "end"}
        assert b"old" not in payloads(inbox)
        assert bus.stats().dropped == {"control_offline": 1, "frames_offline": 1}

    def test_state_is_kept_from_before_the_first_connection(self, system: System) -> None:
        bus = system.bus("bus", start=False)
        inbox: Inbox[Inbound] = Inbox()
        bus.subscribe("s", inbox)
        assert not bus.publish("c", b"1")
        assert bus.publish("s", b"2", retain=True, traffic=Traffic.STATE)
        assert bus.start(5)
        assert inbox.wait()[0].payload == b"2"

    def test_refuses_a_payload_beyond_256_kb(self, system: System) -> None:
        bus = system.bus("bus")
        inbox: Inbox[Inbound] = Inbox()
        bus.subscribe("big", inbox)
        assert not bus.publish("big", bytes(262_145))
        assert bus.publish("big", bytes(262_144))
        assert len(inbox.wait()[0].payload) == 262_144
        assert bus.stats().dropped == {"oversize": 1}

    def test_refuses_what_is_no_topic_and_no_filter(self, system: System) -> None:
        bus = system.bus("bus", start=False)
        with pytest.raises(BadRequest, match="wildcard"):
            bus.publish("a/+", b"")
        with pytest.raises(BadRequest, match="fills a whole level"):
            bus.subscribe("a/b+", print)

    def test_flush_waits_until_everything_has_gone_out(self, system: System) -> None:
        bus = system.bus("bus")
        for number in range(100):
            bus.publish(FRAMES, b"%d" % number, traffic=Traffic.FRAMES)
            bus.publish(f"s/{number}", b"x", traffic=Traffic.STATE)
        assert bus.flush(10)
        stats = bus.stats()
        assert (stats.control, stats.state, stats.frames, stats.frame_bytes) == (0, 0, 0, 0)

    def test_close_sends_what_is_queued_and_refuses_more(self, system: System) -> None:
        watcher, bus = system.bus("watcher"), system.bus("bus")
        inbox: Inbox[Inbound] = Inbox()
        news: Inbox[bool] = Inbox()
        watcher.subscribe("last/#", inbox)
        bus.on_connection(news)
        bus.publish("last/word", b"bye", retain=True, traffic=Traffic.STATE)
        bus.close()
        assert inbox.wait()[0].payload == b"bye"
        assert not bus.connected
        assert not bus.publish("last/more", b"x")
        assert False not in news.items
        bus.close()

    def test_close_from_a_handler_does_not_deadlock(self, system: System) -> None:
        bus = system.bus("bus")
        closed = threading.Event()

        def handler(_message: Inbound) -> None:
            bus.close()
            closed.set()

        bus.subscribe("a", handler)
        bus.publish("a", b"x")
        assert closed.wait(5)
