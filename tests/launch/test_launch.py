"""Packs are run the same way by every launcher: here, in processes, on a Ray cluster."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from polytask.errors import PolytaskError
from polytask.launch import local
from polytask.launch import ray as on_ray
from tests.packs import counted, ends, unknown

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'polytask[ray]'")
Launch = Callable[..., Iterator[dict[str, Any]]]

LAUNCHERS = [
    pytest.param("here", id="here"),
    pytest.param("processes", id="processes"),
    pytest.param("ray", id="ray", marks=needs_ray),
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
    if request.param == "ray":
        request.getfixturevalue("cluster")
        return partial(on_ray.run, cpus=1)
    return partial(local.run, devices=("cpu",) if request.param == "here" else ("cpu", "cpu"))


def packs(*upto: int, **given: Any) -> list[dict[str, Any]]:
    return [{"name": f"p{at}", "upto": count, **given} for at, count in enumerate(upto)]


@pytest.mark.parametrize("launch", LAUNCHERS, indirect=True)
def test_every_message_of_every_pack_comes_in_its_order(launch: Launch) -> None:
    messages = list(launch(iter(packs(3, 0, 2, 4)), counted))
    for name, count in (("p0", 3), ("p1", 0), ("p2", 2), ("p3", 4)):
        assert [message["number"] for message in messages if message["pack"] == name] == list(range(count))
    assert {message["device"] for message in messages} == {"cpu"}


@pytest.mark.parametrize("launch", LAUNCHERS, indirect=True)
def test_packs_are_taken_as_there_is_room_for_them(launch: Launch) -> None:
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
def test_what_goes_wrong_in_a_pack_is_raised_here(launch: Launch) -> None:
    with pytest.raises(ValueError, match="p0 cannot count on"):
        list(launch(iter(packs(1, fails=True)), counted))


@pytest.mark.parametrize("launch", LAUNCHERS, indirect=True)
def test_a_refusal_is_one_here_too(launch: Launch) -> None:
    with pytest.raises(PolytaskError, match="no pack called 'p0'"):
        list(launch(iter(packs(1)), unknown))


@pytest.mark.parametrize("launch", LAUNCHERS, indirect=True)
def test_no_packs_are_no_messages(launch: Launch) -> None:
    assert list(launch(iter([]), counted)) == []


def test_a_process_that_dies_is_told_of() -> None:
    with pytest.raises(PolytaskError, match="a process on cpu ended without a word"):
        list(local.run(iter(packs(1)), ends, devices=("cpu", "cpu")))


@needs_ray
@pytest.mark.usefixtures("cluster")
def test_resources_that_no_machine_has_are_refused_with_what_there_is() -> None:
    with pytest.raises(
        PolytaskError, match=r"no machine .* has the 2 GPUs and 1 CPUs .*machines with: 0 GPUs and 2 CPUs"
    ):
        list(on_ray.run(iter(packs(1)), counted, gpus=2, cpus=1))
    with pytest.raises(PolytaskError, match="has the 0 GPUs and 64 CPUs that a pack asks for"):
        list(on_ray.run(iter(packs(1)), counted, cpus=64))


MACHINES = [{"CPU": 16.0, "GPU": 4.0}, {"CPU": 64.0}]


def test_a_pack_asks_for_a_gpu_where_there_is_one_and_for_its_share_of_cores() -> None:
    assert on_ray._asked(MACHINES, None, None) == {"GPU": 1, "CPU": 4}
    assert on_ray._asked(MACHINES[1:], None, None) == {"GPU": 0, "CPU": 64}
    assert on_ray._asked(MACHINES, 0, 2) == {"GPU": 0, "CPU": 2}
    assert on_ray._asked(MACHINES, 0.5, None) == {"GPU": 0.5, "CPU": 2}
    assert sum(on_ray._fits(machine, {"GPU": 1, "CPU": 4}) for machine in MACHINES) == 4
    assert sum(on_ray._fits(machine, {"GPU": 0, "CPU": 32}) for machine in MACHINES) == 2


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_it_says_how_to_get_it() -> None:
    with pytest.raises(PolytaskError, match="this needs Ray"):
        list(on_ray.run(iter(packs(1)), counted))


@needs_ray
def test_a_cluster_that_is_not_there_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(PolytaskError, match=r"the Ray cluster 127\.0\.0\.1:9 cannot be reached"):
        list(on_ray.run(iter(packs(1)), counted, address="127.0.0.1:9"))
