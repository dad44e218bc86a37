"""Plain values as JSON text: compact, and exact where integers are large."""

from __future__ import annotations

import json
import math

import pytest

from sat_toolkit.core.plain_json import dumps


def test_text_is_compact_and_in_utf_8() -> None:
    assert dumps({"ä": [1, None]}) == '{"ä":[1,null]}'.encode()


@pytest.mark.parametrize("number", [2**64 - 1, 2**64, -(2**63) - 1, 10**40])
def test_integers_are_exact_however_large(number: int) -> None:
    assert dumps({"n": number}) == f'{{"n":{number}}}'.encode()


def test_what_json_has_no_form_for_is_refused() -> None:
    with pytest.raises(TypeError):
        dumps({"x": object()})
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps([2**70, math.nan])
    assert json.loads(dumps([math.nan])) == [None]
