"""Every launcher runs packs in the same way: in this process, in several processes, on a Ray cluster."""

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
