"""Option groups become options of the verb, and arrive as dataclasses."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from polytask.cli.flatten import flattened
from polytask.cli.option_groups import BackboneOptions


@dataclass(frozen=True)
class Shape:
    width: Annotated[int, typer.Option(help="Width.")] = 3
    height: Annotated[int, typer.Option("--tall", help="Height.")] = 4


def draw(
    name: Annotated[str, typer.Argument()],
    shape: Shape,
    times: Annotated[int, typer.Option()] = 1,
) -> None:
    """Draw."""
    typer.echo(f"{name} {shape} {times}")


def test_each_field_of_a_group_is_a_parameter() -> None:
    assert list(inspect.signature(flattened(draw)).parameters) == ["name", "width", "height", "times"]


def test_a_verb_gets_its_group_as_a_dataclass() -> None:
    app = typer.Typer()
    app.command()(flattened(draw))
    result = CliRunner().invoke(app, ["box", "--tall", "7", "--times", "2"])
    assert result.output.strip() == f"box {Shape(3, 7)} 2"


def test_auto_is_the_dtype_of_the_resumed_run_and_a_named_dtype_stays() -> None:
    interrupted = {"dtype": "bfloat16"}
    assert BackboneOptions().resuming(interrupted).dtype == "bfloat16"
    assert BackboneOptions().resuming(None).dtype == "auto"
    assert BackboneOptions(dtype="float32").resuming(interrupted).dtype == "float32"
