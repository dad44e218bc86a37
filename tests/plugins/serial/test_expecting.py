"""What `expect` finds in what was received, and what it says of its outcome."""

from __future__ import annotations

import pytest

from plugins.devices.serial.expecting import MAX_BEFORE, compile_search, describe, no_match
from sat_toolkit.errors import BadArgs


def test_a_pattern_gives_its_match_its_groups_and_what_came_before() -> None:
    found = compile_search(r"v(?P<major>\d+)\.(\d+)(-rc)?", None)(b"boot\r\nv3.14 ready")
    assert found is not None
    assert found.value == {
        "match": "v3.14",
        "groups": ["3", "14", None],
        "named": {"major": "3"},
        "before": "boot\r\n",
    }
    assert found.end == len(b"boot\r\nv3.14")


def test_a_text_is_no_pattern() -> None:
    search = compile_search(None, "a.c")
    assert search(b"abc") is None
    found = search(b"xa.c")
    assert found is not None
    assert found.value["match"] == "a.c"


def test_bytes_that_are_not_utf_8_read_as_escapes_and_are_counted_as_bytes() -> None:
    found = compile_search("ok.", None)(b"\xff\xc3\xa9ok\xfe!")
    assert found is not None
    assert (found.value["before"], found.value["match"]) == ("\\xffé", "ok\\xfe")
    assert found.end == 6


def test_of_what_came_before_the_last_is_told() -> None:
    found = compile_search(None, "end")(b"x" * (MAX_BEFORE + 10) + b"end")
    assert found is not None
    assert found.value["before"] == "x" * MAX_BEFORE


@pytest.mark.parametrize(
    ("pattern", "text", "says"),
    [
        (None, None, "exactly one"),
        ("a", "b", "exactly one"),
        ("(", None, "is no regular expression"),
        ("a*", None, "matches the empty text"),
        (None, "", "matches the empty text"),
    ],
)
def test_what_cannot_be_looked_for_is_refused(
    pattern: str | None, text: str | None, says: str
) -> None:
    with pytest.raises(BadArgs, match=says):
        compile_search(pattern, text)


def test_an_expect_in_vain_says_what_came_instead() -> None:
    assert no_match("login", 500, b"") == "nothing was received within 500 ms; expected 'login'"
    said = no_match("login", 500, b"a" * 300 + b"panic")
    assert "no match for 'login' within 500 ms; 305 bytes were received" in said
    assert said.endswith("panic'")
    assert len(said) < 300


@pytest.mark.parametrize("args", [{"pattern": "x"}, {"text": "x"}])
def test_what_is_waited_for_is_named(args: dict[str, str]) -> None:
    assert describe(args) == "x"
