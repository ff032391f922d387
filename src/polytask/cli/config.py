"""``--config train.yaml``: reads the options of a verb from a file. The command line takes precedence.

    file: reviews.csv
    task: sentiment
    lr: 1e-3
    set: [activation=relu, layers=2]

Options have their long names. Values mean the same as on the command line: they are read as text, so ``positive: yes``
is the label ``yes``. An option with several values, or with numbers joined by commas, may be a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from polytask.errors import DataError, nearest

NOT_IN_FILES = ("config", "print_config", "help")


def _read(context: typer.Context, path: str | None) -> str | None:
    """Use the options in a file as the command line's defaults."""
    if path is not None:
        params = {_long_name(param): param for param in context.command.params if param.name not in NOT_IN_FILES}
        given = _mapping_in(path)
        for key in given:
            if _dashed(key) not in params:
                near = nearest(_dashed(key), params)
                fix = f"Did you mean {near!r}?" if near else f"There are: {', '.join(params)}"
                raise DataError(f"there is no option {key!r}", file=path, fix=fix)
        chosen = {params[_dashed(key)]: value for key, value in given.items() if value not in ("", "null", "~")}
        context.default_map = {param.name or "": _as_given(param, value, path) for param, value in chosen.items()}
    return path


ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config", metavar="FILE", is_eager=True, callback=_read, help="YAML file of options by their long names."
    ),
]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Only print all options, as YAML for --config.")]


def print_resolved(context: typer.Context) -> None:
    """Print every option that has a value, as YAML for ``--config``."""
    import yaml

    values = {
        _long_name(param): context.params[param.name]
        for param in context.command.params
        if param.name in context.params and param.name not in NOT_IN_FILES
    }
    given = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v not in (None, [], ())}
    typer.echo(yaml.safe_dump(given, sort_keys=False, allow_unicode=True), nl=False)


def _mapping_in(path: str) -> Mapping[str, Any]:
    """Read a YAML file; all values are texts or lists of texts."""
    import yaml

    try:
        found = yaml.load(Path(path).read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror})", file=path) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"this is not YAML ({reason})", file=path) from None
    if found in (None, ""):
        return {}
    if not isinstance(found, Mapping):
        raise DataError("this is not a mapping", file=path, fix="Write one option per line, such as 'lr: 1e-3'")
    return found


def _as_given(param: Any, value: Any, path: str) -> Any:
    """Convert a value of the file to its form on the command line."""
    takes_several = getattr(param, "multiple", False) or param.nargs == -1
    if isinstance(value, Mapping) or (isinstance(value, list) and not all(isinstance(each, str) for each in value)):
        fix = "Write a value or a list of values, such as 'set: [size=4, activation=relu]'"
        raise DataError(f"{_long_name(param)!r} is not a value or a list of values", file=path, fix=fix)
    if takes_several:
        return value if isinstance(value, list) else [value]
    return ",".join(value) if isinstance(value, list) else value


def _long_name(param: Any) -> str:
    """``batch-size`` for ``--batch-size``; an argument's own name."""
    longest: str = max(param.opts, key=len, default=param.name)
    return longest.removeprefix("--") if longest.startswith("--") else str(param.name)


def _dashed(name: object) -> str:
    return str(name).strip().removeprefix("--").replace("_", "-")
