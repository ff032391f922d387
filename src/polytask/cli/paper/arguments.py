"""``polytask paper``: the app of its verbs, and the options that they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.cli import options
from polytask.cli.usage import Verbs

if TYPE_CHECKING:
    pass

ORDER = ("plan", "run", "show", "report", "all", "rerun", "submit")


class PaperVerbs(Verbs):
    """In the order in which a reproduction goes."""

    def list_commands(self, ctx: Any) -> list[str]:
        """As in ``ORDER``."""
        return list(ORDER)


app = options.Typer(
    cls=PaperVerbs,
    name="paper",
    no_args_is_help=True,
    help="Reproduce Houlsby et al. (2019): run its trials, draw its tables and figures.",
)

EditionName = Annotated[str, typer.Option("--edition", help="paper: the grids as printed; cpu: capped for two cores.")]
BackboneName = Annotated[str, typer.Option("--backbone", help="A hub id, a folder, or minilm.")]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="DIR", help="Holds glue/, text17/, squad/ as published; from the hub unless given."),
]
Results = Annotated[str, typer.Option("--out", metavar="DIR", help="Holds the results, a folder for each edition.")]
Exhibits = Annotated[
    str | None,
    typer.Option(
        "--exhibits",
        metavar="NAMES",
        help="Of table1,table2,tradeoff,squad,ablation,init,lr,extensions; all unless given.",
    ),
]
Tasks = Annotated[
    str | None, typer.Option("--tasks", metavar="NAMES", help="Such as CoLA,RTE,sms_spam; all unless given.")
]
Budget = Annotated[
    float | None, typer.Option("--budget", metavar="HOURS", help="Cut what does not fit, alike for all methods.")
]
MaxRows = Annotated[
    int | None, typer.Option("--max-rows", help="Another cap on the rows of each split: an edition of its own.")
]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Epochs of every trial: an edition of its own.")]
Seeds = Annotated[int | None, typer.Option("--seeds", help="Seeds of every setting: an edition of its own.")]
Launcher = Annotated[str, typer.Option("--on", help="local or ray.")]
Address = Annotated[
    str | None, typer.Option(help="Of a Ray cluster: auto, ray://host:10001. One is started here unless given.")
]
Workers = Annotated[int | None, typer.Option(help="Processes side by side (local): one a GPU, or one, unless given.")]
Gpus = Annotated[float | None, typer.Option(help="GPUs of each pack (ray): 1 where there are any, unless given.")]
Cpus = Annotated[float | None, typer.Option(help="CPUs of each pack (ray): its share of a machine unless given.")]
Keep = Annotated[str, typer.Option(metavar="WHICH", help="best of each task and method, all, or none.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="As paper plan: train nothing.")]
