"""Builds a method from ``--method``, ``--size`` and ``--set``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from polytask.errors import RecipeError, UnknownName

if TYPE_CHECKING:
    from polytask.methods import Method


def method_of(name: str, size: int | None, given: Sequence[str] | None) -> Method:
    """The method ``name`` with the given settings, each converted to the type of its default.

    Raises:
        UnknownName: there is no such method, or it has no such setting.
        RecipeError: a setting's value is not of its type or out of range.
    """
    from polytask.methods import METHODS

    if name not in METHODS:
        raise UnknownName("method", name, METHODS)
    return with_settings(METHODS[name](), size, given)


def with_settings(method: Method, size: int | None, given: Sequence[str] | None) -> Method:
    """The method with the given settings in place of its own; raises as ``method_of``."""
    name = method.name
    settings = dict(_assignment(text) for text in given or ())
    if size is not None:
        settings["size"] = str(size)
    known = {field.name: field.default for field in fields(type(method))}  # type: ignore[arg-type]
    if size is not None and "size" not in known and "rank" in known:
        raise RecipeError(f"the method {name!r} has a rank and no size. Write --set rank={size}")
    for setting in settings:
        if setting not in known:
            raise UnknownName(f"setting of the method {name!r}", setting, known)
    values = {setting: _value(setting, text, known[setting]) for setting, text in settings.items()}
    return replace(method, **values)  # type: ignore[type-var]


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"{text!r} is not a setting. Write NAME=VALUE, such as activation=relu")
    return name.strip(), value.strip()


def _value(name: str, text: str, default: Any) -> Any:
    """``text`` converted to the type of ``default``; if that is None (``layers``), a number or a list in JSON."""
    if isinstance(default, str):
        return text
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(","))
    try:
        value = json.loads(text)
        return type(default)(text) if default is not None else tuple(value) if isinstance(value, list) else value
    except ValueError:
        example = "[0,1,2]" if default is None else default
        raise RecipeError(f"{name}={text} is not understood. Write, for example, {name}={example}") from None
