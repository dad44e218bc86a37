"""The topic table: building, escaping, recognising, matching."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sat_bus.contract import topics
from sat_toolkit.errors import BadRequest

LEVELS = {
    "host": "bench1-can", "driver": "drv_can", "device": "can0", "command": "send", "client": "rack",
    "stream": "can", "op": "scan", "id": "r1",
}  # fmt: skip
free_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=32)


def levels_of(row: topics.Topic) -> dict[str, str]:
    return {name: value for name, value in LEVELS.items() if "{" + name + "}" in row.pattern}


class TestTable:
    @pytest.mark.parametrize("row", topics.TABLE, ids=lambda row: row.name)
    def test_what_is_built_is_recognised(self, row: topics.Topic) -> None:
        levels = levels_of(row)
        built = row.build("lab", **levels)
        assert topics.parse("lab", built) == topics.Match(row, levels)
        assert any(topics.matches(subscription, built) for subscription in row.filters("lab"))

    def test_topics_do_not_overlap(self) -> None:
        for row in topics.TABLE:
            built = row.build("lab", **levels_of(row))
            others = [
                o.name
                for o in topics.TABLE
                if o is not row
                for f in o.filters("lab")
                if topics.matches(f, built)
            ]
            assert others == []

    def test_retained_topics_are_state(self) -> None:
        assert all(row.traffic is topics.Traffic.STATE for row in topics.TABLE if row.retain)

    def test_the_client_level_may_be_left_out(self) -> None:
        built = topics.SET.build("lab", host="h", driver="d", device="x")
        assert built == "sat/1/lab/dev/h/d/x/set"
        match = topics.parse("lab", built)
        assert match is not None
        assert match.client is None

    def test_filters_fill_in_what_is_known(self) -> None:
        assert topics.COMMAND.filters("lab", host="h") == (
            "sat/1/lab/dev/h/+/+/cmd/+",
            "sat/1/lab/dev/h/+/+/cmd/+/+",
        )

    @pytest.mark.parametrize("topic", [
        "sat/1/other/orch/state", "sat/1/lab/orch", "sat/1/lab/orch/state/x", "sat/2/lab/orch/state", "",
        "sat/1/lab/dev/h/d/%2f/state", "sat/1/lab/dev/h/d/%FF/state", "sat/1/lab/dev/h x/d/y/state",
    ])  # fmt: skip
    def test_a_stranger_is_not_recognised(self, topic: str) -> None:
        assert topics.parse("lab", topic) is None


class TestLevels:
    @given(free_text)
    def test_any_text_survives_the_way_through_a_topic(self, value: str) -> None:
        encoded = topics.encode_level("device", value)
        assert not set(encoded) & set("/+#\0")
        assert topics.decode_level(encoded) == value

    @given(free_text, free_text)
    def test_two_devices_never_share_a_topic(self, one: str, other: str) -> None:
        assert (topics.encode_level("device", one) == topics.encode_level("device", other)) == (
            one == other
        )

    def test_escapes_in_upper_case(self) -> None:
        assert topics.encode_level("device", "/dev/tty+#%\n") == "%2Fdev%2Ftty%2B%23%25%0A"

    @pytest.mark.parametrize("value", ["", "x" * 129, "ä" * 65])
    def test_refuses_a_device_of_another_length(self, value: str) -> None:
        with pytest.raises(BadRequest, match="1 to 128 bytes"):
            topics.encode_level("device", value)

    @pytest.mark.parametrize("value", ["", "a/b", "a b", "x" * 65, "name\n", "ä"])
    def test_refuses_what_is_no_plain_name(self, value: str) -> None:
        with pytest.raises(BadRequest, match="are accepted"):
            topics.encode_level("host", value)

    @pytest.mark.parametrize("text", ["%2f", "%", "%G0", "100%"])
    def test_refuses_a_percent_that_escapes_nothing(self, text: str) -> None:
        with pytest.raises(BadRequest, match="upper-case hex"):
            topics.decode_level(text)


class TestReplyTo:
    def test_only_below_reply(self) -> None:
        assert topics.may_reply_to("lab", "sat/1/lab/reply/rack/1", None)
        assert not topics.may_reply_to("lab", "sat/1/lab/orch/state", None)
        assert not topics.may_reply_to("lab", "sat/1/lab/reply/rack/1/2", None)
        assert not topics.may_reply_to("other", "sat/1/lab/reply/rack/1", None)

    def test_a_named_client_only_below_its_own(self) -> None:
        assert topics.may_reply_to("lab", "sat/1/lab/reply/rack/1", "rack")
        assert not topics.may_reply_to("lab", "sat/1/lab/reply/rack/1", "thief")


class TestMatches:
    @pytest.mark.parametrize(("subscription", "topic"), [
        ("a/b", "a/b"), ("a/+", "a/b"), ("+/b", "a/b"), ("#", "a/b"), ("a/#", "a/b/c"), ("a/#", "a"), ("+", "a"),
        ("a/+", "a/"), ("+/+", "/x"), ("$SYS/#", "$SYS/x"),
    ])  # fmt: skip
    def test_catches(self, subscription: str, topic: str) -> None:
        assert topics.matches(subscription, topic)

    @pytest.mark.parametrize(("subscription", "topic"), [
        ("a/b", "a"), ("a", "a/b"), ("a/+", "a"), ("a/+", "a/b/c"), ("+", "a/b"), ("#", "$SYS/x"), ("+/x", "$SYS/x"),
        ("b/#", "a/b"), ("a/b", "a/B"),
    ])  # fmt: skip
    def test_lets_pass(self, subscription: str, topic: str) -> None:
        assert not topics.matches(subscription, topic)
