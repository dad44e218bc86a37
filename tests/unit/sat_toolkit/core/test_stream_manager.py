"""Streams: StreamData's shape, channels that must be open, and the bounded queue of client data."""

from __future__ import annotations

import threading

import pytest

from sat_toolkit.core.stream_manager import (
    CLIENT_QUEUE_LENGTH,
    StreamAction,
    StreamData,
    StreamManager,
    StreamSource,
    StreamType,
    StreamWrapper,
)
from tests.unit.sdk_fakes import RecordingSink, datum


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
def manager(sink: RecordingSink) -> StreamManager:
    manager = StreamManager()
    manager.sink = sink
    return manager


def test_stream_data_goes_to_a_dict_and_back() -> None:
    data = StreamData(
        StreamType.CAN, "can0", 2.5, StreamSource.CLIENT, StreamAction.SEND, {"id": 1}, {"k": "v"}
    )
    plain = data.to_dict()
    assert plain == {
        "stream_type": "can",
        "channel": "can0",
        "timestamp": 2.5,
        "source": "client",
        "action": "send",
        "data": {"id": 1},
        "metadata": {"k": "v"},
    }
    assert type(plain["action"]) is str
    assert StreamData.from_dict(plain) == data


def test_stream_data_of_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="morse"):
        StreamData.from_dict(datum().to_dict() | {"stream_type": "morse"})


def test_both_call_shapes_of_broadcast_reach_the_sink(
    manager: StreamManager, sink: RecordingSink
) -> None:
    wrapper = StreamWrapper(manager)
    wrapper.register_stream("a")
    assert wrapper.broadcast_data(datum("a", 1))
    assert wrapper.broadcast_data("a", datum("another", 2))
    assert [(d.channel, d.data) for d in sink.received] == [("a", 1), ("a", 2)]


def test_broadcasting_something_else_says_so() -> None:
    with pytest.raises(TypeError, match="takes a StreamData, not str"):
        StreamWrapper(StreamManager()).broadcast_data("a")


def test_data_for_a_closed_channel_is_counted_and_dropped(
    manager: StreamManager, sink: RecordingSink
) -> None:
    assert not manager.broadcast_data(datum("a"))
    manager.register_stream("a")
    manager.unregister_stream("a")
    assert not manager.broadcast_data(datum("a"))
    assert manager.unregistered_dropped == 2
    assert sink.received == []


def test_the_sink_hears_of_each_opening_and_closing_once(
    manager: StreamManager, sink: RecordingSink
) -> None:
    wrapper = StreamWrapper(manager)
    assert wrapper.register_stream("a")
    assert not wrapper.register_stream("a")
    assert manager.channels == {"a"}
    assert wrapper.stop_broadcast("a")
    assert not wrapper.unregister_stream("a")
    assert sink.events == [("opened", "a"), ("closed", "a")]


def test_a_sink_that_comes_later_hears_of_open_channels(sink: RecordingSink) -> None:
    manager = StreamManager()
    manager.register_stream("early")
    manager.sink = sink
    assert sink.events == [("opened", "early")]


def test_client_data_comes_in_order_and_then_none(manager: StreamManager) -> None:
    assert manager.put_client_data(datum(data=1))
    assert manager.put_client_data(datum(data=2))
    assert [manager.get_client_data().data for _ in range(2)] == [1, 2]
    assert manager.get_client_data() is None


def test_a_full_client_queue_drops_its_oldest_and_counts(manager: StreamManager) -> None:
    accepted = [manager.put_client_data(datum(data=n)) for n in range(CLIENT_QUEUE_LENGTH + 2)]
    assert accepted == [True] * CLIENT_QUEUE_LENGTH + [False, False]
    assert manager.client_data_dropped == 2
    assert manager.get_client_data().data == 2


def test_a_waiting_reader_gets_client_data_when_it_comes(manager: StreamManager) -> None:
    got: list[StreamData | None] = []
    reader = threading.Thread(target=lambda: got.append(manager.get_client_data(timeout=5.0)))
    reader.start()
    manager.put_client_data(datum(data="late"))
    reader.join(5.0)
    assert [d.data for d in got] == ["late"]


def test_a_waiting_reader_gives_up_at_its_deadline(manager: StreamManager) -> None:
    assert manager.get_client_data(timeout=0.01) is None
