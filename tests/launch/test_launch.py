"""Every launcher runs packs in the same way: in this process, in several processes, on a Ray cluster."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.data.task import Task
from polytask.errors import BackboneError, PolytaskError, RecipeError
from polytask.launch import local
from polytask.launch import ray as on_ray
from polytask.launch.training import train_in_packs
from polytask.methods import FullFineTuning, Houlsby, LoRA
from polytask.training.events import Evaluated
from polytask.training.fused import train_many
from polytask.training.grid import grid
from polytask.training.recipe import Recipe
from polytask.training.sweep import sweep
from tests.cli.test_cli import ROWS, refused, succeeded, table
from tests.packs import counted, ends, unknown

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'polytask[ray]'")
IS_RAY_ASKED = HAS_RAY and os.environ.get("POLYTASK_TEST_RAY") == "1"
if_ray_is_asked = pytest.mark.skipif(not IS_RAY_ASKED, reason="slow: POLYTASK_TEST_RAY=1 runs it")
"""Skips a test whose subject another test with Ray covers; a cluster takes a quarter of a minute to start."""
Launch = Callable[..., Iterator[dict[str, Any]]]

LAUNCHERS = [
    pytest.param("here", id="here"),
    pytest.param("processes", id="processes"),
    pytest.param("ray", id="ray", marks=if_ray_is_asked),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of two cores for the tests of this module."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture
def launch(request: pytest.FixtureRequest) -> Launch:
    if request.param == "ray, one at a time":
        request.getfixturevalue("cluster")
        return partial(on_ray.run_packs, cpus=2)
    if request.param == "ray":
        request.getfixturevalue("cluster")
        return partial(on_ray.run_packs, cpus=1)
    return partial(local.run_packs, devices=("cpu",) if request.param == "here" else ("cpu", "cpu"))


def packs(*upto: int, **given: Any) -> list[dict[str, Any]]:
    return [{"name": f"p{at}", "upto": count, **given} for at, count in enumerate(upto)]


@pytest.mark.parametrize("launch", LAUNCHERS, indirect=True)
def test_messages_of_a_pack_arrive_in_order(launch: Launch) -> None:
    messages = list(launch(iter(packs(3, 0, 2, 4)), counted))
    for name, count in (("p0", 3), ("p1", 0), ("p2", 2), ("p3", 4)):
        assert [message["number"] for message in messages if message["pack"] == name] == list(range(count))
    assert {message["device"] for message in messages} == {"cpu"}


@pytest.mark.parametrize("launch", LAUNCHERS, indirect=True)
def test_a_pack_is_taken_when_there_is_room_for_it(launch: Launch) -> None:
    taken: list[str] = []

    def given() -> Iterator[dict[str, Any]]:
        for pack in packs(1, 1, 1, 1, 1):
            taken.append(pack["name"])
            yield pack

    messages = launch(given(), counted)
    next(messages)
    assert len(taken) <= 2
    assert len([None, *messages]) == 5
    assert taken == ["p0", "p1", "p2", "p3", "p4"]


@pytest.mark.parametrize("launch", LAUNCHERS, indirect=True)
def test_an_exception_of_a_pack_is_raised_by_the_launcher(launch: Launch) -> None:
    with pytest.raises(ValueError, match="p0 cannot count on"):
        list(launch(iter(packs(1, fails=True)), counted))


@pytest.mark.parametrize("launch", LAUNCHERS, indirect=True)
def test_an_error_of_polytask_keeps_its_type_and_message(launch: Launch) -> None:
    with pytest.raises(PolytaskError, match="no pack called 'p0'"):
        list(launch(iter(packs(1)), unknown))


@pytest.mark.parametrize("launch", LAUNCHERS, indirect=True)
def test_no_packs_give_no_messages(launch: Launch) -> None:
    assert list(launch(iter([]), counted)) == []


# -- training ---------------------------------------------------------------------------------------------------------

TRAINING = [pytest.param("here", id="here"), pytest.param("ray, one at a time", id="ray", marks=if_ray_is_asked)]
"""One at a time, so that one worker imports torch and not two."""


@pytest.mark.parametrize("launch", TRAINING, indirect=True)
def test_packs_give_the_tensors_of_train_many(launch: Launch, tiny_backbone: Backbone, tiny_task: Task) -> None:
    recipe = Recipe(Houlsby(4), epochs=2, batch_size=8)
    methods = {"a": Houlsby(4), "b": LoRA(2), "full": FullFineTuning(), "c": Houlsby(2)}
    jobs = {name: (tiny_task, replace(recipe, method=method)) for name, method in methods.items()}
    expected = {**train_many(tiny_backbone, {name: jobs[name] for name in "ab"})}
    expected |= train_many(tiny_backbone, {"c": jobs["c"]}) | train_many(tiny_backbone, {"full": jobs["full"]})
    events: list[Any] = []
    found = dict(train_in_packs(launch, tiny_backbone, jobs, together=2, progress=events.append))
    assert {name: own[0].tensor_digest for name, own in found.items()} == {  # type: ignore[index]
        name: own[0].tensor_digest
        for name, own in expected.items()  # type: ignore[index]
    }
    assert found["a"][0].header.backbone == expected["a"][0].header.backbone  # type: ignore[index]
    assert sum(isinstance(event, Evaluated) for event in events) == 2 * len(jobs)


@pytest.mark.parametrize("launch", TRAINING, indirect=True)
def test_a_sweep_with_a_launcher_equals_a_sweep_in_one_process(
    launch: Launch, tiny_backbone: Backbone, tiny_task: Task, tmp_path: Path
) -> None:
    recipes = grid(Recipe(Houlsby(4), epochs=1, batch_size=8), lr=(1e-3, 1e-2), seeds=2)
    train = partial(train_in_packs, launch, tiny_backbone, with_test=False)
    remote = sweep(
        tiny_backbone, tiny_task, recipes, folder=tmp_path, train=lambda jobs, report: train(jobs, progress=report)
    )
    local_sweep = sweep(tiny_backbone, tiny_task, recipes)
    assert remote.best.tensor_digest == local_sweep.best.tensor_digest
    assert [run.score for run in remote.runs] == [run.score for run in local_sweep.runs]

    def nothing_is_left(*_: Any) -> Iterator[Any]:
        raise AssertionError

    again = sweep(
        tiny_backbone, tiny_task, recipes[:2], folder=tmp_path, train=lambda jobs, _: iter(jobs and nothing_is_left())
    )
    assert len(again.runs) == 2


def test_a_diverged_job_and_a_changed_backbone_are_reported(
    tiny_bert_folder: Path, tiny_task: Task, tmp_path: Path
) -> None:
    backbone = load_backbone(tiny_bert_folder, device="cpu", dtype="float32")
    launch = partial(local.run_packs, devices=("cpu",))
    jobs = {
        "bad": (tiny_task, Recipe(Houlsby(4), lr=1e30, epochs=1)),
        "good": (tiny_task, Recipe(Houlsby(4), epochs=1)),
    }
    found = dict(train_in_packs(launch, backbone, jobs))
    assert isinstance(found["bad"], RecipeError)
    assert not isinstance(found["good"], RecipeError)
    backbone.fingerprint = "0" * 64
    with pytest.raises(BackboneError, match="has different weights on the training machine"):
        list(train_in_packs(launch, backbone, jobs))
    with pytest.raises(RecipeError, match="0 jobs cannot train together"):
        list(train_in_packs(launch, backbone, jobs, together=0))


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_train_and_sweep_on_ray_give_the_results_of_this_machine(tmp_path: Path, tiny_bert_folder: Path) -> None:
    (tmp_path / "tasks").mkdir()
    for name in ("mood", "tone"):
        table(tmp_path / "tasks" / f"{name}.csv", ROWS * 3)
    shared = ("--backbone", tiny_bert_folder, "--batch-size", 8, "--epochs", 1, "--dtype", "float32", "--json")
    on_ray = ("--on", "ray", "--cpus", 2)
    digests = []
    for store, where in (("here", ()), ("ray", on_ray)):
        said = succeeded("train", tmp_path / "tasks", *shared, "--size", 4, "--store", tmp_path / store, *where)
        digests.append([json.loads(line)["adapter"]["tensor_digest"] for line in said.splitlines()])
        results = ("--results", tmp_path / f"{store}-sweep", "--store", tmp_path / store)
        mood = (tmp_path / "tasks" / "mood.csv", "--lr", "1e-3,1e-2", "--seeds", 1)
        digests[-1] += [
            json.loads(succeeded("sweep", *mood, *shared, *results, *where))["best"]["adapter"]["tensor_digest"]
        ]
    assert digests[0] == digests[1]
    assert Store(tmp_path / "ray").versions("mood") == Store(tmp_path / "here").versions("mood")


def test_cluster_options_are_refused_without_a_cluster(tmp_path: Path) -> None:
    mood = table(tmp_path / "mood.csv", ROWS)
    tone = table(tmp_path / "tone.csv", ROWS)
    assert "--address is for --on ray" in refused("train", mood, "--address", "auto")
    assert "--together is for --on ray" in refused("sweep", mood, "--together", 4)
    assert "no launcher called 'slurm'" in refused("train", mood, tone, "--on", "slurm")
    assert "for several files or a sweep" in refused("train", mood, "--on", "ray")
    assert "--resume is for --on local" in refused("train", mood, tone, "--on", "ray", "--resume")


def test_a_process_that_dies_is_reported() -> None:
    with pytest.raises(PolytaskError, match="a process on cpu died without an error message"):
        list(local.run_packs(iter(packs(1)), ends, devices=("cpu", "cpu")))


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_resources_that_no_machine_has_are_refused() -> None:
    with pytest.raises(
        PolytaskError, match=r"no machine .* has the 2 GPUs and 1 CPUs .*Its machines have: 0 GPUs and 2 CPUs"
    ):
        list(on_ray.run_packs(iter(packs(1)), counted, gpus=2, cpus=1))
    with pytest.raises(PolytaskError, match="has the 0 GPUs and 64 CPUs that a pack needs"):
        list(on_ray.run_packs(iter(packs(1)), counted, cpus=64))


MACHINES = [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 64.0}]


def test_a_pack_asks_for_one_gpu_and_its_share_of_the_cores() -> None:
    assert on_ray._pack_resources(MACHINES, None, None) == {"GPU": 1, "CPU": 4}
    assert on_ray._pack_resources(MACHINES[1:], None, None) == {"GPU": 0, "CPU": 64}
    assert on_ray._pack_resources(MACHINES, 0, 2) == {"GPU": 0, "CPU": 2}
    assert on_ray._pack_resources(MACHINES, 0.5, None) == {"GPU": 0.5, "CPU": 2}
    assert sum(on_ray._num_packs_on(machine, {"GPU": 1, "CPU": 4}) for machine in MACHINES) == 4
    assert sum(on_ray._num_packs_on(machine, {"GPU": 0, "CPU": 32}) for machine in MACHINES) == 2


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_the_error_names_the_extra() -> None:
    with pytest.raises(PolytaskError, match="this needs Ray"):
        list(on_ray.run_packs(iter(packs(1)), counted))


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nonsense", "nowhere://x"])
def test_a_cluster_that_cannot_be_reached_is_refused_in_one_line(address: str) -> None:
    import ray

    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(PolytaskError, match=f"^Ray cannot connect to {address}: ") as raised:
        list(on_ray.run_packs(iter(packs(1)), counted, address=address))
    assert "\n" not in str(raised.value)


@needs_ray
def test_a_cluster_that_does_not_start_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def slow(**_: object) -> None:  # what ray._private.node raises when its raylet does not register within 30 s
        raise Exception("The current node timed out during startup.\nSee the logs")

    if ray.is_initialized():
        ray.shutdown()
    monkeypatch.setattr(ray, "init", slow)
    with pytest.raises(PolytaskError, match=r"^a Ray cluster cannot be started here: The current node .* startup\.$"):
        list(on_ray.run_packs(iter(packs(1)), counted))
