"""Payloads as models, and the forms that a request may take."""

from __future__ import annotations

from typing import get_args

import pytest

from sat_bus.contract import messages as m
from sat_toolkit.core.device_spec import DeviceState
from sat_toolkit.errors import BadArgs, BadRequest, Busy, Code


class TestMessage:
    def test_leaves_out_what_is_none_and_reads_it_back(self) -> None:
        reply = m.Reply(status="ok", result={"x": 1}, state=DeviceState.CONNECTED)
        assert b"request_id" not in reply.encode()
        assert b'"connected"' in reply.encode()
        assert m.Reply.decode(reply.encode()) == reply

    def test_a_row_for_which_nothing_is_desired_is_read_back(self) -> None:
        row = m.TableRow(observed=DeviceState.ERROR, quality="good", policy="", rev=1)
        assert b"desired" not in row.encode()
        assert m.TableRow.decode(row.encode()) == row

    @pytest.mark.parametrize(
        "model",
        [
            model
            for model in vars(m).values()
            if isinstance(model, type) and issubclass(model, m.Message)
        ],
    )
    def test_what_may_be_left_out_may_be_missing(self, model: type[m.Message]) -> None:
        may_be_none = [
            name
            for name, field in model.model_fields.items()
            if type(None) in get_args(field.annotation) and field.is_required()
        ]
        assert may_be_none == []

    def test_ignores_fields_of_a_newer_sender(self) -> None:
        assert m.HostState.decode(b'{"state":"ready","boot":"1-a","color":"red"}').state == "ready"

    def test_says_which_field_is_wrong(self) -> None:
        with pytest.raises(BadRequest, match=r"state: .*boot: Field required"):
            m.HostState.decode(b'{"state":"asleep"}')

    def test_an_event_keeps_the_fields_of_its_kind(self) -> None:
        assert b'"port":"can0"' in m.Event(event="unplugged", at=1.0, port="can0").encode()

    @pytest.mark.parametrize("payload", [b"[]", b"1", b'"ready"', b"null"])
    def test_refuses_what_is_no_object(self, payload: bytes) -> None:
        with pytest.raises(BadRequest):
            m.HostState.decode(payload)


class TestParseRequest:
    def test_an_object_without_args_is_the_args(self) -> None:
        request = m.parse_request(b'{"id": "0x123", "timeout_ms": 5}')
        assert request == m.Request(args={"id": "0x123", "timeout_ms": 5})
        assert m.parse_request(b"{}") == m.Request(args={})

    def test_an_object_with_args_is_an_envelope(self) -> None:
        request = m.parse_request(
            b'{"args": {"a": 1}, "request_id": "r1", "timeout_ms": 500, "boot": "1-a"}'
        )
        assert (request.args, request.request_id, request.timeout_ms, request.boot) == (
            {"a": 1},
            "r1",
            500,
            "1-a",
        )

    @pytest.mark.parametrize(("payload", "reason"), [
        (b"[1]", "this is a list"),
        (b"nonsense", "not JSON"),
        (b'{"args": {}, "timeout": 5}', "timeout: Extra inputs"),
        (b'{"args": [], "request_id": "r1"}', "args: "),
        (b'{"args": {}, "timeout_ms": 0}', "timeout_ms: "),
        (b'{"args": {}, "timeout_ms": 600001}', "timeout_ms: "),
        (b'{"args": {}, "request_id": "a b"}', "request_id: "),
    ])  # fmt: skip
    def test_refuses_and_says_why(self, payload: bytes, reason: str) -> None:
        with pytest.raises(m.MalformedRequest, match=reason) as caught:
            m.parse_request(payload)
        assert caught.value.code is Code.BAD_REQUEST

    def test_a_malformed_envelope_still_says_whom_to_tell(self) -> None:
        with pytest.raises(m.MalformedRequest) as caught:
            m.parse_request(b'{"args": 1, "request_id": "r1", "reply_to": "sat/1/lab/reply/c/1"}')
        assert (caught.value.request_id, caught.value.reply_to) == ("r1", "sat/1/lab/reply/c/1")
        with pytest.raises(m.MalformedRequest) as caught:
            m.parse_request(b'{"args": 1, "request_id": "not an id", "reply_to": 7}')
        assert (caught.value.request_id, caught.value.reply_to) == (None, None)


def desired_in(payload: bytes) -> m.Desired | None:
    return m.parse_desired(m.parse_set_request(payload))


class TestParseSet:
    @pytest.mark.parametrize("payload", [
        b"connected", b'"connected"', b" connected\n", b'{"level": "connected"}', b'{"args": {"level": "connected"}}',
    ])  # fmt: skip
    def test_takes_a_word_or_an_object(self, payload: bytes) -> None:
        assert desired_in(payload) == m.Desired(level="connected")

    @pytest.mark.parametrize("payload", [b"auto", b'"auto"', b'{"level": "auto"}'])
    def test_auto_leaves_it_to_policy(self, payload: bytes) -> None:
        assert desired_in(payload) is None

    def test_takes_streams(self) -> None:
        request = m.parse_set_request(
            b'{"args": {"level": "connected", "streams": {"can": {"a": 1}}}, "request_id": "r"}'
        )
        assert m.parse_desired(request) == m.Desired(level="connected", streams={"can": {"a": 1}})
        assert request.request_id == "r"

    @pytest.mark.parametrize(
        "payload", [b"on", b"active", b'{"level": "connected", "x": 1}', b'{"streams": {}}']
    )
    def test_refuses_anything_else_and_says_what_is_accepted(self, payload: bytes) -> None:
        with pytest.raises(BadArgs, match="accepted: connected, initialized, disconnected, auto"):
            desired_in(payload)


class TestReplies:
    def test_args_that_do_not_fit_name_the_accepted_ones(self) -> None:
        with pytest.raises(BadArgs, match="device: Field required; accepted: host, driver, device"):
            m.parse_args(m.DeviceArgs, m.Request(args={}))

    def test_a_failure_carries_its_code(self) -> None:
        reply = m.failed("r1", Busy("3 wait"), host="h", boot="b", duration_ms=2.0)
        assert (reply.status, reply.code, reply.message, reply.retryable) == (
            "error",
            Code.BUSY,
            "3 wait",
            True,
        )
        assert reply.duration_ms == 2.0

    def test_a_success_repeats_the_id(self) -> None:
        reply = m.ok(m.Request(args={}, request_id="r1"), host="h", boot="b", result=[1])
        assert (reply.request_id, reply.status, reply.result) == ("r1", "ok", [1])


def test_a_row_of_what_nobody_desires_can_be_read_as_it_is_written() -> None:
    row = m.TableRow(observed=DeviceState.DISCOVERED, quality="good", policy="", rev=1)
    assert b"desired" not in row.encode()
    assert m.TableRow.decode(row.encode()) == row
