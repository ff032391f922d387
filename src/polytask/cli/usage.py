"""The help of a verb in two columns: an option with its argument, and its description.

Typer uses separate columns for long names, short names, negated flags and types, which leaves a third of an 80-column
terminal for the descriptions.
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

MAX_NAME_WIDTH = 28


class Verb(TyperCommand):
    """A verb with a two-column help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        out = console.terminal()
        out.width = min(Console().width, console.WIDTH)  # respects COLUMNS, also in a pipe
        out.print(page(self, ctx))


class Verbs(TyperGroup):
    """A group of verbs, listed as typer does it."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        try:
            super().format_help(ctx, formatter)
        except SystemExit:  # rich exits like this when the pipe is closed
            raise console.broken_pipe() from None


def page(verb: TyperCommand, context: Any) -> RenderableType:
    """Usage, description, arguments, options and examples of a verb."""
    arguments = [own for own in verb.get_params(context) if isinstance(own, TyperArgument)]
    others = [own for own in verb.get_params(context) if not isinstance(own, TyperArgument)]
    usage = " ".join([context.command_path, *verb.collect_usage_pieces(context)])
    parts: list[RenderableType] = [
        Padding(Text.assemble(("Usage: ", "yellow"), (usage, "bold")), (1, 1, 0, 1)),
        Padding(Text.from_markup(_unwrapped(inspect.cleandoc(verb.help or ""))), (1, 1)),
    ]
    parts += [_option_table(name, own, context) for name, own in (("Arguments", arguments), ("Options", others)) if own]
    if verb.epilog:
        parts.append(Padding(Text.from_markup(verb.epilog.replace("\n\n", "\n")), (0, 1, 1, 1)))
    return Group(*parts)


def _unwrapped(text: str) -> str:
    """The text with one line per paragraph, so that the terminal wraps it to its own width."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _option_table(title: str, params: Iterable[Any], context: Any) -> Panel:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold cyan", max_width=MAX_NAME_WIDTH, overflow="fold")
    table.add_column(ratio=1)
    for param in params:
        if (record := param.get_help_record(context)) is not None:
            table.add_row(Text(_name(param, record[0])), _description(param, record[1]))
    table.expand = True
    return Panel(table, title=title, title_align="left", border_style="dim")


def _name(param: Any, name: str) -> str:
    """``--lr NUMBERS``; ``--[no-]keep-prefix`` for a flag that can be negated."""
    if getattr(param, "secondary_opts", None) and param.secondary_opts[0] == f"--no-{param.opts[0][2:]}":
        return f"--[no-]{param.opts[0][2:]}"
    return name.replace("<bool>", "").strip()


def _description(param: Any, text: str) -> Text:
    """The help text, and what typer adds: the default, or that the option is required."""
    own = getattr(param, "help", None) or ""
    added = text.removeprefix(own).replace("\\[", "[").strip()
    return Text.from_markup(f"{own} [dim]{escape(added)}[/dim]".strip())
