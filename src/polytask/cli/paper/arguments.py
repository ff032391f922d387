"""The app of ``polytask paper`` and the options that its verbs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from polytask.cli import options
from polytask.cli.usage import Verbs
from polytask.errors import PolytaskError, UnknownName

ORDER = ("plan", "run", "show", "report", "all", "rerun", "submit")
ADAPTERS_KEPT, LAUNCHERS = ("best", "all", "none"), ("local", "ray")


class PaperVerbs(Verbs):
    """The verbs, listed in the order of a reproduction."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs in the order of ``ORDER``."""
        return list(ORDER)


app = options.Typer(
    cls=PaperVerbs,
    name="paper",
    no_args_is_help=True,
    help="Reproduce Houlsby et al. (2019): run its trials, draw its tables and figures.",
)

EditionName = Annotated[
    str, typer.Option("--edition", help="paper: the grids as printed; cpu: reduced for two cores; claim.")
]
BackboneName = Annotated[str, typer.Option("--backbone", help="A hub id, a folder, or minilm.")]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="DIR", help="Folder with glue/, text17/, squad/ as published (default: the hub)."),
]
Results = Annotated[
    str, typer.Option("--out", metavar="DIR", help="Folder of the results, with one folder per edition.")
]


@dataclass(frozen=True)
class EditionOptions:
    """What to run: an edition, the part of it that is asked for, its data and its backbone."""

    edition: EditionName = "cpu"
    backbone: BackboneName = "minilm"
    data: Data = None
    out: Results = "results"
    exhibits: Annotated[
        str | None,
        typer.Option(
            "--exhibits",
            metavar="NAMES",
            help="Some of table1,table2,tradeoff,squad,ablation,init,lr,extensions (default: all).",
        ),
    ] = None
    tasks: Annotated[
        str | None,
        typer.Option("--tasks", metavar="NAMES", help="Some tasks, such as CoLA,RTE,sms_spam (default: all)."),
    ] = None
    budget: Annotated[
        float | None,
        typer.Option("--budget", metavar="HOURS", help="Reduce the edition to fit, equally for all methods."),
    ] = None
    max_rows: Annotated[
        int | None, typer.Option("--max-rows", help="Maximum rows of each split; makes a separate edition.")
    ] = None
    epochs: Annotated[int | None, typer.Option("--epochs", help="Epochs of every trial; makes a separate edition.")] = (
        None
    )
    seeds: Annotated[int | None, typer.Option("--seeds", help="Seeds of every setting; makes a separate edition.")] = (
        None
    )
    device: options.Device = "auto"
    dtype: options.Dtype = "auto"


@dataclass(frozen=True)
class LaunchOptions:
    """Where and how to run the trials."""

    on: Annotated[str, typer.Option("--on", help="local or ray.")] = "local"
    address: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster: auto, ray://host:10001 (default: start one here)."),
    ] = None
    workers: Annotated[
        int | None, typer.Option(help="With --on local: number of processes (default: one per GPU, else one).")
    ] = None
    gpus: Annotated[
        float | None, typer.Option(help="With --on ray: GPUs of each pack of trials (default: 1 if there are any).")
    ] = None
    cpus: Annotated[
        float | None, typer.Option(help="With --on ray: CPUs of each pack (default: its share of a machine).")
    ] = None
    keep_adapters: Annotated[
        str, typer.Option(metavar="WHICH", help="Adapters to keep: best of each task and method, all, or none.")
    ] = "best"

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            UnknownName: there is no such launcher or choice of adapters.
            PolytaskError: an option belongs to another launcher.
        """
        if self.keep_adapters not in ADAPTERS_KEPT:
            raise UnknownName("choice of --keep-adapters", self.keep_adapters, ADAPTERS_KEPT)
        if self.on not in LAUNCHERS:
            raise UnknownName("launcher", self.on, LAUNCHERS)
        if self.on == "local" and (self.address, self.gpus, self.cpus) != (None, None, None):
            raise PolytaskError("--address, --gpus and --cpus are for --on ray")
        if self.on == "ray" and self.workers is not None:
            raise PolytaskError(
                "--workers is for --on local. With Ray, --gpus and --cpus of each pack say how many run"
            )


DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the plan, as paper plan does. Trains nothing.")]
ReportEdition = Annotated[
    str, typer.Option("--edition", metavar="NAME", help="Name of the edition, a folder under --out.")
]
ReportResults = Annotated[str, typer.Option("--out", metavar="DIR", help="Folder of the results.")]
ReportBackbone = Annotated[
    str | None,
    typer.Option("--backbone", metavar="NAME", help="Backbone whose results are used, if there are several."),
]
Page = Annotated[
    str | None,
    typer.Option(
        "--html", metavar="FILE", help="File of the page (default: index.html in the folder of the exhibits)."
    ),
]
Update = Annotated[
    str | None,
    typer.Option("--update", metavar="FILE", help="Also rewrite the results between the markers of this document."),
]
