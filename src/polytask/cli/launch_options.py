"""Options of ``train`` and ``sweep`` that say where jobs train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polytask.errors import PolytaskError, UnknownName

if TYPE_CHECKING:
    from polytask.backbones.backbone import Backbone
    from polytask.data.task import Task
    from polytask.training.fused import Outcome
    from polytask.training.recipe import Recipe

LAUNCHERS = ("local", "ray")


@dataclass(frozen=True)
class LaunchOptions:
    """Where to train: on this machine, or on a Ray cluster."""

    on: Annotated[
        str, typer.Option("--on", metavar="local|ray", help="Train on this machine, or several jobs on a Ray cluster.")
    ] = "local"
    address: Annotated[
        str | None,
        typer.Option(help="With --on ray: auto or ray://host:10001 (default: start a cluster on this machine)."),
    ] = None
    gpus: Annotated[
        float | None, typer.Option("--gpus", help="With --on ray: GPUs of each pass (default: 1 if there are any).")
    ] = None
    cpus: Annotated[
        float | None, typer.Option("--cpus", help="With --on ray: CPUs of each pass (default: its share of a machine).")
    ] = None
    together: Annotated[
        int | None, typer.Option("--together", help="With --on ray: jobs that train in one pass (default: 8).")
    ] = None

    @property
    def is_remote(self) -> bool:
        """Whether jobs train on a cluster."""
        return self.on == "ray"

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            UnknownName: there is no such launcher.
            PolytaskError: an option is for Ray only.
        """
        if self.on not in LAUNCHERS:
            raise UnknownName("launcher", self.on, LAUNCHERS)
        given = {"address": self.address, "gpus": self.gpus, "cpus": self.cpus, "together": self.together}
        if self.on == "local" and (odd := [name for name, value in given.items() if value is not None]):
            raise PolytaskError(f"--{odd[0]} is for --on ray")

    def train(
        self, backbone: Backbone, jobs: Mapping[str, tuple[Task, Recipe]], progress: Any, **settings: Any
    ) -> Iterator[tuple[str, Outcome]]:
        """Train jobs on the cluster; ``settings`` are those of ``train_in_packs``."""
        from polytask.launch.ray import run_packs
        from polytask.launch.training import JOBS_PER_PACK, train_in_packs

        launch = partial(run_packs, address=self.address, gpus=self.gpus, cpus=self.cpus)
        together = JOBS_PER_PACK if self.together is None else self.together
        return train_in_packs(launch, backbone, jobs, together=together, progress=progress, **settings)
