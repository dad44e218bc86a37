"""Whether a value certainly fits a JSON Schema, told quickly for the plain schemas that commands
declare. PURE.

`jsonschema` takes as long as the rest of a command's way through a host. Here the usual keywords
are known; where another one stands, or a value does not fit, the answer is no: then `jsonschema`
has the word, and says why.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_ANNOTATIONS = frozenset({"title", "description", "default", "examples", "format"})
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}
# The keyword, the types of the values it is told for, and its rule.
_KEYWORDS: dict[str, tuple[tuple[type, ...], Callable[[Any, Any], bool]]] = {
    "properties": (
        (dict,),
        lambda rule, value: all(fits(rule[k], v) for k, v in value.items() if k in rule),
    ),
    "required": ((dict,), lambda rule, value: all(name in value for name in rule)),
    "items": ((list,), lambda rule, value: all(fits(rule, item) for item in value)),
    "minItems": ((list,), lambda rule, value: len(value) >= rule),
    "maxItems": ((list,), lambda rule, value: len(value) <= rule),
    "enum": ((str,), lambda rule, value: value in rule),
    "pattern": ((str,), lambda rule, value: re.search(rule, value) is not None),
    "minLength": ((str,), lambda rule, value: len(value) >= rule),
    "maxLength": ((str,), lambda rule, value: len(value) <= rule),
    "minimum": ((int, float), lambda rule, value: value >= rule),
    "maximum": ((int, float), lambda rule, value: value <= rule),
}


def fits(schema: Any, value: Any) -> bool:
    """True only when `value` is valid by `schema`, which is a schema; False tells nothing."""
    if type(schema) is not dict:
        return schema is True
    kind = type(value)
    for keyword, rule in schema.items():
        known = _KEYWORDS.get(keyword)
        if known is not None:
            if kind not in known[0] or not known[1](rule, value):
                return False
        elif keyword == "type":
            if type(rule) is not str or kind not in _TYPES[rule]:
                return False
        elif keyword == "additionalProperties":
            named = schema.get("properties", {})
            if kind is not dict or not all(k in named or fits(rule, v) for k, v in value.items()):
                return False
        elif keyword not in _ANNOTATIONS:
            return False
    return True
