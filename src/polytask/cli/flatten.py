"""Option groups: a verb takes several options as one dataclass, so that verbs share them.

A dataclass whose fields are typer options is a group. ``flattened`` shows typer a function with one parameter for each
field; when it is called, it builds the dataclass and calls the verb.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def flattened(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with the fields of its option groups as parameters.

    Args:
        verb: a function; parameters that are annotated with a dataclass are option groups.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint) and isinstance(hint, type)}
    parameters = [own for each in inspect.signature(verb).parameters.values() for own in _parameters(each, hints)]

    @functools.wraps(verb)
    def call(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        verb(**values)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _parameters(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Iterator[inspect.Parameter]:
    """The parameter itself, or one for each field of its group; all by keyword."""
    hint = hints[parameter.name]
    if not is_dataclass(hint):
        yield parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY)
        return
    own = get_type_hints(hint, include_extras=True)
    for field in fields(hint):
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=own[field.name]
        )
