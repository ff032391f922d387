"""The command-line app, options that mean the same for every verb, error exits and JSON output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from polytask import __version__
from polytask.cli import console, usage
from polytask.cli.flatten import flattened
from polytask.errors import PolytaskError

if TYPE_CHECKING:
    from polytask.adapters.store import Entry
    from polytask.architectures import Pooling
    from polytask.backbones.backbone import Backbone

USER_ERROR, INTERRUPTED = 2, 130
"""Exit codes."""

ORDER = (
    *("train", "multitask", "sweep", "eval", "predict", "compare", "report", "promote", "rollback"),
    *("tasks", "show", "alias", "remove", "verify", "gc", "merge"),
    *("serve", "import", "export", "push", "pull", "convert"),
    *("inspect", "bench", "paper", "demo"),
)
ARGUMENTS = "polytask.arguments"
"""The key in ``context.meta`` of the command-line arguments."""


class Verbs(usage.Verbs):
    """Verbs that report an error as one red line and an exit code, without a traceback."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs in the order of ``ORDER``."""
        return sorted(super().list_commands(ctx), key=ORDER.index)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Store the arguments, so that a verb can print the command that continues its run."""
        ctx.meta[ARGUMENTS] = list(args)
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
            raise error_exit(str(error), USER_ERROR) from None
        except OSError as error:
            raise error_exit(f"{error.filename or 'the system'}: {error.strerror or error}", USER_ERROR) from None
        except MemoryError as error:
            raise error_exit(out_of_memory(error), USER_ERROR) from None
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise error_exit(out_of_memory(error), USER_ERROR) from None
        except KeyboardInterrupt:
            raise error_exit("interrupted", INTERRUPTED) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch failed to allocate memory."""
    message = str(error)
    return "can't allocate memory" in message or "not enough memory" in message or "out of memory" in message


def out_of_memory(error: BaseException) -> str:
    """The message for a failed allocation, in one line."""
    reason = (str(error).strip() or "no memory is left").splitlines()[0]
    return f"out of memory: {reason}. Try a smaller --size, --batch-size or --max-length"


UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""What typer raises for an unknown option or a value of the wrong type."""


@contextmanager
def usage_errors_as_one_line() -> Iterator[None]:
    """Report a usage error as one red line, like all other errors."""
    try:
        yield
    except UsageError as error:
        if not (problem := error.format_message()):  # type: ignore[attr-defined]
            raise  # no verb was given, and the help is shown
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "polytask"
        message = problem[:1].lower() + problem[1:] + ("" if problem[-1] in ".?" else ".")
        raise error_exit(f"{message} For all options: {command} --help", USER_ERROR) from None


def error_exit(message: str, code: int) -> typer.Exit:
    """Print the message as one red line, and return the exit to raise."""
    console.error(console.terminal(stderr=True), message)
    return typer.Exit(code)


Function = TypeVar("Function", bound=Callable[..., Any])


class Typer(typer.Typer):
    """An app whose verbs print our help and may take option groups."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        """As ``typer.Typer.command``; parameters that are dataclasses become one option for each field."""
        register = super().command(name, **{"cls": usage.Verb, **settings})

        def registered(verb: Function) -> Function:
            register(flattened(verb))
            return verb

        return registered


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
    """Many tasks on one frozen pretrained transformer. Each task adds one small adapter and changes no other task."""
    if version:
        typer.echo(f"polytask {__version__}")
        raise typer.Exit


StoreFolder = Annotated[str, typer.Option("--store", metavar="DIR", help="Folder of the adapters.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
SourceFile = Annotated[
    str | None,
    typer.Argument(
        help="Training data: CSV, TSV, JSON lines (also .gz) or Parquet; for spans also SQuAD's JSON.",
        show_default=False,
    ),
]
HubName = Annotated[
    str | None,
    typer.Option("--hub", metavar="NAME[:CONFIGURATION]", help="Train on a dataset of the Hugging Face hub instead."),
]
TaskName = Annotated[str | None, typer.Option("--task", help="Name of the task (default: the name of the file).")]
BackboneName = Annotated[
    str, typer.Option("--backbone", help="The pretrained transformer: a hub id, a folder, or minilm.")
]
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="NAME",
        help="The settings that no other option gives: default, or paper (of 2019; docs/recipes.md).",
    ),
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Rows per step (default: the recipe's, 32).")]
MaxLength = Annotated[
    int | None,
    typer.Option("--max-length", help="Maximum number of tokens of a text (default: the recipe's, 256; paper: 128)."),
]
LongTexts = Annotated[
    str | None,
    typer.Option(
        "--long", help="What to do with longer texts: truncate them (default), or split them into windows and average."
    ),
]
Stride = Annotated[
    int | None,
    typer.Option("--stride", help="For spans: tokens that two windows of a context share (default: a third)."),
]
Precision = Annotated[
    float | None,
    typer.Option(help="Abstain when unsure, so that this share of the answers is right (with 95% confidence)."),
]
Recall = Annotated[float | None, typer.Option(help="Abstain when unsure, but find this share of the true labels.")]
Coverage = Annotated[float | None, typer.Option(help="Abstain when unsure, but answer this share of the rows.")]
F1 = Annotated[
    bool, typer.Option("--f1", help="With several labels per text: give each label the threshold with its best F1.")
]
NoneRate = Annotated[
    float | None,
    typer.Option(
        "--none-of-these",
        metavar="RATE",
        help="Give no label to texts unlike the training texts. RATE, such as 0.05, is the false-alarm rate.",
    ),
]
NoneLabel = Annotated[
    str | None,
    typer.Option("--none-label", metavar="LABEL", help="The label in the file that means none of the other labels."),
]
BesideProbe = Annotated[
    bool,
    typer.Option("--probe/--no-probe", help="Also score a linear probe, for comparison (up to 5,000 training rows)."),
]
PerLabel = Annotated[bool, typer.Option("--per-label", help="One threshold for each label, not one for all.")]
KeepPrefix = Annotated[
    bool | None,
    typer.Option(help="With --set layers=2: compute the layers below only once per text, without dropout."),
]
ClassWeights = Annotated[
    str | None,
    typer.Option(
        "--class-weights",
        help="For rare labels: 'balanced' weighs them more, 'logit-adjusted' corrects for label frequencies.",
    ),
]
Patience = Annotated[
    int | None, typer.Option("--patience", help="Stop after this many epochs without a better validation score.")
]
Epochs = Annotated[int | None, typer.Option(help="Number of epochs (default: from the number of rows).")]
LearningRate = Annotated[float | None, typer.Option(help="Peak learning rate (default: the method's own).")]
Seed = Annotated[int, typer.Option(help="Random seed. The same seed gives the same adapter.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run; the adapter is the same.")]
CheckpointFile = Annotated[
    str | None,
    typer.Option(
        "--checkpoint", metavar="FILE", help="Checkpoint of the run (default: in the store's folder .training)."
    ),
]
MovingAverage = Annotated[
    float | None,
    typer.Option("--ema", metavar="DECAY", help="Keep a moving average of the weights, such as 0.99. Costs nothing."),
]
RDrop = Annotated[
    float | None,
    typer.Option(
        "--rdrop", metavar="WEIGHT", help="R-Drop: read each row twice and penalise different answers, such as 1.0."
    ),
]
NumModules = Annotated[
    int | None,
    typer.Option(
        "--num-modules", help="AdaMix: train several bottlenecks in turns and average them, such as 4 with --rdrop."
    ),
]
HeadStart = Annotated[
    str | None,
    typer.Option("--head-start", metavar="WEIGHTS", help="First weights of the head: 'random', or those of a 'probe'."),
]
BackboneDropout = Annotated[
    float | None,
    typer.Option(
        "--backbone-dropout", metavar="RATE", help="The dropout rate in the backbone's layers (default: their own)."
    ),
]
Start = Annotated[
    list[str] | None,
    typer.Option(
        "--start",
        metavar="NAME",
        help="Start from this adapter of the store, not from random weights; several are averaged; 'auto' chooses one.",
    ),
]
ValidationFile = Annotated[
    str | None,
    typer.Option("--validation", metavar="FILE", help="Validation data (default: a tenth of the training data)."),
]
TestFile = Annotated[
    str | None,
    typer.Option("--test", metavar="FILE", help="Test data, scored once at the end and never used to choose anything."),
]
TaskKind = Annotated[
    str | None,
    typer.Option("--kind", help="classification, multilabel, regression or span (default: from the labels)."),
]
TaskMetric = Annotated[
    str | None, typer.Option("--metric", help="accuracy, f1, matthews, micro_f1, pearson, span_f1, …")
]
Positive = Annotated[
    str | None,
    typer.Option(
        "--positive", metavar="LABEL", help="With two labels: the one that f1 is computed for (default: the second)."
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, … or auto.")]
Dtype = Annotated[
    str,
    typer.Option(
        help="Type of the frozen weights: float32, bfloat16, auto (the faster one here), or int8 (inference only)."
    ),
]
TextColumn = Annotated[str | None, typer.Option("--text", metavar="COLUMN", help="The column of texts.")]
PairColumn = Annotated[str | None, typer.Option("--text-pair", metavar="COLUMN", help="The column of second texts.")]
LabelColumn = Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="The column of labels.")]
DropEmpty = Annotated[bool, typer.Option("--drop-empty", help="Skip rows without a text or label.")]
Encoding = Annotated[
    str | None, typer.Option("--encoding", help="Encoding of text files, such as cp1252 (default: UTF-8).")
]
OfBackbone = Annotated[
    str | None,
    typer.Option("--backbone", help="Where the backbone is, if it was moved since the adapter was trained."),
]
METHODS = "houlsby, pfeiffer, parallel, lora, ia3, bitfit, layernorm, probe, or the baselines full and top"
MethodName = Annotated[str, typer.Option("--method", metavar="NAME", help=f"{METHODS}.")]
RecipeMethod = Annotated[
    str | None,
    typer.Option("--method", metavar="NAME", help=f"{METHODS} (default: the recipe's, houlsby)."),
]
Size = Annotated[int | None, typer.Option("--size", help="Size of the bottleneck (default: 64).")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Another setting of the method: activation=relu, or layers=2 for the top two layers only, which trains "
        "faster and is usually less accurate.",
    ),
]


def examples(*lines: str) -> str:
    """The examples at the end of a help page, one per line."""
    return "\n\n".join(f"[dim]$[/dim] [cyan]{line}[/cyan]" for line in lines)


def print_json(value: object) -> None:
    """Print one line of JSON on stdout, with escapes if stdout is not UTF-8."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    typer.echo(json.dumps(value, ensure_ascii=not is_utf8, allow_nan=False))


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Show what is being done while it lasts, if stderr is a terminal."""
    out = console.terminal(stderr=True)
    if not out.is_terminal:
        yield
        return
    with out.status(what):
        yield


def load_backbone(name: str, device: str, dtype: str, pooling: Pooling | None = None) -> Backbone:
    """Load a backbone, with a spinner; ``pooling`` is as in ``polytask.load_backbone``."""
    with spinner(f"loading {name}"):
        from polytask.backbones import loading

        return loading.load_backbone(name, device=device, dtype=dtype, pooling=pooling)


def load_backbone_of(entry: Entry, device: str, dtype: str, name: str | None = None) -> Backbone:
    """Load the backbone that an adapter was trained on, or the one called ``name``, with the adapter's pooling."""
    return load_backbone(name or entry.header.backbone.name, device, dtype, entry.header.pooling)
