"""Tells pydantic's models from other values without importing pydantic: who never imported it has
none. The SDK works without it, and a worker starts without it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from pydantic import BaseModel


def is_model(value: Any) -> TypeGuard[BaseModel]:
    """Whether `value` is an instance of a model."""
    return (base := _base()) is not None and isinstance(value, base)


def is_model_class(value: Any) -> TypeGuard[type[BaseModel]]:
    """Whether `value` is a model's class."""
    return isinstance(value, type) and (base := _base()) is not None and issubclass(value, base)


def _base() -> type[BaseModel] | None:
    return getattr(sys.modules.get("pydantic"), "BaseModel", None)
