"""The help of a verb, to be read at 80 columns: the name of an option and what it takes, beside its description.

Typer gives long names, short names, the opposites of flags and types a column each, and leaves a third of a terminal
to what they mean.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from typer.core import TyperArgument, TyperCommand, TyperGroup

from polytask.cli import console

WIDEST_NAME = 28


class Verb(TyperCommand):
    """A verb with this help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        out = console.terminal()
        out.width = min(Console().width, console.WIDTH)  # that of COLUMNS, of a pipe too
        out.print(page(self, ctx))


class Verbs(TyperGroup):
    """Several verbs; their list is typer's."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        try:
            super().format_help(ctx, formatter)
        except SystemExit:  # so rich ends where nobody reads any further
            raise console.broken_pipe() from None


def page(verb: TyperCommand, context: Any) -> RenderableType:
    """How the verb is called, what it does, its arguments and options, and examples."""
    arguments = [own for own in verb.get_params(context) if isinstance(own, TyperArgument)]
    others = [own for own in verb.get_params(context) if not isinstance(own, TyperArgument)]
    usage = " ".join([context.command_path, *verb.collect_usage_pieces(context)])
    parts: list[RenderableType] = [
        Padding(Text.assemble(("Usage: ", "yellow"), (usage, "bold")), (1, 1, 0, 1)),
        Padding(Text.from_markup(inspect.cleandoc(verb.help or "")), (1, 1)),
    ]
    parts += [_listed(name, own, context) for name, own in (("Arguments", arguments), ("Options", others)) if own]
    if verb.epilog:
        parts.append(Padding(Text.from_markup(verb.epilog.replace("\n\n", "\n")), (0, 1, 1, 1)))
    return Group(*parts)


def _listed(title: str, params: Iterable[Any], context: Any) -> Panel:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold cyan", max_width=WIDEST_NAME, overflow="fold")
    table.add_column(ratio=1)
    for param in params:
        if (record := param.get_help_record(context)) is not None:
            table.add_row(Text(_name(param, record[0])), _description(param, record[1]))
    table.expand = True
    return Panel(table, title=title, title_align="left", border_style="dim")


def _name(param: Any, name: str) -> str:
    """``--lr NUMBERS``; ``--[no-]keep-prefix`` for a flag and its opposite."""
    if getattr(param, "secondary_opts", None) and param.secondary_opts[0] == f"--no-{param.opts[0][2:]}":
        return f"--[no-]{param.opts[0][2:]}"
    return name.replace("<bool>", "").strip()


def _description(param: Any, text: str) -> Text:
    """The help as its author wrote it, and what the command line adds: the default, or that there must be one."""
    own = getattr(param, "help", None) or ""
    added = text.removeprefix(own).replace("\\[", "[").strip()
    return Text.from_markup(f"{own} [dim]{escape(added)}[/dim]".strip())
