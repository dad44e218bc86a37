"""What the contract refuses of JSON although Python's parser takes it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sat_bus.contract import strict_json
from sat_toolkit.errors import BadRequest

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def repeated_keys(first: object, second: object) -> str:
    """An object with a key that stands twice, at some depth."""
    return f'[{{"k": {json.dumps(first)}, "other": {{}}, "k": {json.dumps(second)}}}]'


class TestLoads:
    @pytest.mark.parametrize(("payload", "reason"), [
        (b"NaN", "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"a": {"b": 1, "b": 1}}', "stands twice"),
        (b"1e999", "out of range"),
        (b'["\\ud800"]', "lone surrogate"),
        (b'{"\\udfff": 1}', "lone surrogate"),
        (b"\xff", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"[" * 33 + b"]" * 33, "nested too deep"),
        (b"[" * 30_000 + b"]" * 30_000, "nested too deep"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested too deep"),
        (b" " * 65_537, "at most 65536"),
        (b"1" * 5_000, "not JSON"),
    ])  # fmt: skip
    def test_refuses(self, payload: bytes, reason: str) -> None:
        with pytest.raises(BadRequest, match=reason):
            strict_json.loads(payload)

    def test_accepts_up_to_the_limits(self) -> None:
        assert strict_json.loads(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}"
        assert strict_json.loads(b"[" * 31 + b"1" + b"]" * 31)
        assert strict_json.loads(b"1" + b" " * 65_535) == 1
        assert strict_json.loads(b"18446744073709551616") == 2**64
        assert strict_json.loads(b"[" + b"0," * 40_000 + b"0]", max_bytes=100_000)

    @given(
        st.text(alphabet='{}[]:,"\\ab0123456789.eE+- \u00e4NaI', max_size=30)
        | st.builds(repeated_keys, values, values)
    )
    def test_the_fast_way_takes_only_what_the_exact_one_does(self, text: str) -> None:
        payload = text.encode()
        fast = strict_json._fast(payload)
        if fast is not strict_json._UNSURE:
            assert repr(fast) == repr(strict_json._exact(payload))

    def test_most_messages_go_the_fast_way(self) -> None:
        assert (
            strict_json._fast(b'{"a": [1, 2.5, null, "x"], "b": {"c": true}}')
            is not strict_json._UNSURE
        )


class TestDumps:
    @given(values)
    def test_what_is_written_is_read_back(self, value: object) -> None:
        assert strict_json.loads(strict_json.dumps(value)) == value

    def test_is_compact_utf_8(self) -> None:
        assert strict_json.dumps({"ä": [1, None]}) == '{"ä":[1,null]}'.encode()
