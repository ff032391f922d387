"""What the verbs share: the app, the options that mean the same everywhere, how refusals end, how JSON is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from polytask import __version__
from polytask.cli import console, usage
from polytask.errors import PolytaskError

if TYPE_CHECKING:
    from polytask.backbones.backbone import Backbone

OURS, THEIRS, INTERRUPTED = 1, 2, 130


ORDER = (
    *("train", "sweep", "eval", "predict", "compare", "promote", "rollback"),
    *("tasks", "show", "alias", "remove", "verify", "gc"),
    *("serve", "import", "export", "push", "pull", "convert"),
    *("inspect", "bench", "paper", "demo"),
)
GIVEN = "polytask.given"


class Verbs(usage.Verbs):
    """Verbs whose refusals are one red line and an exit code, without a traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which a person needs them."""
        return sorted(super().list_commands(ctx), key=ORDER.index)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the command line as it was given, so that a verb can say how to go on with it."""
        ctx.meta[GIVEN] = list(args)
        with usage_errors_as_one_line():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            with usage_errors_as_one_line():
                return super().invoke(ctx)
        except BrokenPipeError:  # typer would exit with 1
            raise console.broken_pipe() from None
        except PolytaskError as error:
            raise refused(str(error), THEIRS) from None
        except OSError as error:
            raise refused(f"{error.filename or 'the system'}: {error.strerror or error}", THEIRS) from None
        except MemoryError as error:
            raise refused(out_of_memory(error), THEIRS) from None
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise refused(out_of_memory(error), THEIRS) from None
        except KeyboardInterrupt:
            raise refused("interrupted", INTERRUPTED) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch could not have the memory that it asked for."""
    said = str(error)
    return "can't allocate memory" in said or "not enough memory" in said or "out of memory" in said


def out_of_memory(error: BaseException) -> str:
    """One line on memory that cannot be had."""
    reason = (str(error).strip() or "no memory is left").splitlines()[0]
    return f"out of memory: {reason}. Try a smaller --size, --batch-size or --max-length"


UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""What typer raises for an option that is not known, or whose value is not of its type."""


@contextmanager
def usage_errors_as_one_line() -> Iterator[None]:
    """A usage error as one red line, in the form of all other refusals."""
    try:
        yield
    except UsageError as error:
        if not (problem := error.format_message()):  # type: ignore[attr-defined]
            raise  # no verb was given, and the help is shown
        at = getattr(error, "ctx", None)
        command = at.command_path if at is not None else "polytask"
        said = problem[:1].lower() + problem[1:] + ("" if problem[-1] in ".?" else ".")
        raise refused(f"{said} What there is: {command} --help", THEIRS) from None


def refused(message: str, code: int) -> typer.Exit:
    """Print one red line; the exit to raise."""
    console.refusal(console.terminal(stderr=True), message)
    return typer.Exit(code)


Function = TypeVar("Function", bound=Callable[..., Any])


class Typer(typer.Typer):
    """An app whose verbs have our help."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        """As ``typer.Typer.command``."""
        return super().command(name, **{"cls": usage.Verb, **settings})


app = Typer(
    cls=Verbs,
    name="polytask",
    add_completion=True,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def polytask(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Many tasks on one frozen pretrained transformer: each adds one small adapter, and none changes another."""
    if version:
        typer.echo(f"polytask {__version__}")
        raise typer.Exit


StoreFolder = Annotated[str, typer.Option("--store", metavar="DIR", help="The folder of adapters.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs, and nothing else, on stdout.")]
SourceFile = Annotated[
    str | None,
    typer.Argument(
        help="Rows to train on: CSV, TSV, JSON lines (also .gz) or Parquet; for spans, SQuAD's JSON too.",
        show_default=False,
    ),
]
HubName = Annotated[
    str | None,
    typer.Option("--hub", metavar="NAME[:CONFIGURATION]", help="A data set of the Hugging Face hub instead."),
]
TaskName = Annotated[str | None, typer.Option("--task", help="The task's name; the file's name unless given.")]
BackboneName = Annotated[str, typer.Option("--backbone", help="A hub id, a folder, or minilm.")]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Rows a step.")]
MaxLength = Annotated[int, typer.Option("--max-length", help="Tokens of a text.")]
LongTexts = Annotated[
    str, typer.Option("--long", help="What is longer: truncate cuts it off, split averages over windows of it.")
]
Stride = Annotated[
    int | None,
    typer.Option("--stride", help="Of spans: tokens that two windows of a context share; a third unless given."),
]
Precision = Annotated[
    float | None,
    typer.Option(help="Abstain below the probability from which so many answers are right, such as 0.95, for sure."),
]
Recall = Annotated[float | None, typer.Option(help="Abstain below where so many rows are still answered right.")]
Coverage = Annotated[float | None, typer.Option(help="Abstain below where so many rows are still answered.")]
F1 = Annotated[bool, typer.Option("--f1", help="Of several labels: the best F1 of each, in place of 0.5.")]
PerLabel = Annotated[bool, typer.Option("--per-label", help="A threshold for each label, not one for all.")]
KeepPrefix = Annotated[
    bool,
    typer.Option(help="With --set layers=2: run the layers below without dropout, and only once for each text."),
]
ClassWeights = Annotated[
    str | None, typer.Option("--class-weights", help="'balanced' for labels of unequal frequency.")
]
Patience = Annotated[
    int | None, typer.Option("--patience", help="Stop after so many epochs without a better validation score.")
]
ValidationFile = Annotated[
    str | None, typer.Option("--validation", metavar="FILE", help="Unless given, a tenth is held out.")
]
TaskKind = Annotated[str | None, typer.Option("--kind", help="classification, multilabel, regression or span.")]
TaskMetric = Annotated[
    str | None, typer.Option("--metric", help="accuracy, f1, matthews, micro_f1, pearson, span_f1, …")
]
Positive = Annotated[
    str | None,
    typer.Option("--positive", metavar="LABEL", help="Of two labels the one f1 is about; the second unless given."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, … or auto.")]
Dtype = Annotated[str, typer.Option(help="Of the frozen weights: float32, bfloat16, or auto for the faster one here.")]
TextColumn = Annotated[str | None, typer.Option("--text", metavar="COLUMN", help="The column of texts.")]
PairColumn = Annotated[str | None, typer.Option("--text-pair", metavar="COLUMN", help="The column of second texts.")]
LabelColumn = Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="The column of labels.")]
DropEmpty = Annotated[bool, typer.Option("--drop-empty", help="Leave out rows without a text or label.")]
Encoding = Annotated[str | None, typer.Option("--encoding", help="Of text files, such as cp1252; UTF-8 unless given.")]
OfBackbone = Annotated[
    str | None,
    typer.Option("--backbone", help="Where the backbone is, if no longer where the adapter was trained on it."),
]
MethodName = Annotated[
    str,
    typer.Option(
        "--method",
        metavar="NAME",
        help="houlsby, pfeiffer, parallel, lora, ia3, bitfit, layernorm, or the baselines full and top.",
    ),
]
Size = Annotated[int | None, typer.Option("--size", help="The bottleneck's size (64 unless given).")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Another setting of the method: activation=relu, or layers=2 for the top two layers only.",
    ),
]


def examples(*lines: str) -> str:
    """What stands at the end of a help, one example a line."""
    return "\n\n".join(f"[dim]$[/dim] [cyan]{line}[/cyan]" for line in lines)


def emit(value: object) -> None:
    """One line of JSON on stdout, with escapes where that is not UTF-8."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    typer.echo(json.dumps(value, ensure_ascii=not is_utf8, allow_nan=False))


@contextmanager
def working(what: str) -> Iterator[None]:
    """A sign of life on a terminal while something takes a while."""
    out = console.terminal(stderr=True)
    if not out.is_terminal:
        yield
        return
    with out.status(what):
        yield


def loaded(name: str, device: str, dtype: str) -> Backbone:
    """The backbone of this name, with a sign of life while it loads."""
    with working(f"loading {name}"):
        from polytask.backbones.loading import load_backbone

        return load_backbone(name, device=device, dtype=dtype)
