"""Models of pydantic, told from other values without an import of it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import BaseModel

from sat_toolkit.core.pydantic_models import is_model, is_model_class


class Model(BaseModel):
    n: int = 1


@pytest.mark.parametrize(
    ("value", "model", "model_class"),
    [(Model(), True, False), (Model, False, True), (dict, False, False), ({}, False, False), (None, False, False)],
)  # fmt: skip
def test_a_model_and_its_class(value: object, model: bool, model_class: bool) -> None:
    assert (is_model(value), is_model_class(value)) == (model, model_class)


def test_who_never_imported_pydantic_has_none_and_does_not_import_it() -> None:
    code = (
        "import sys; from sat_toolkit.core.pydantic_models import is_model, is_model_class; "
        "print(is_model(1), is_model_class(int), 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "False False False\n", done.stderr
