"""Runs packs on a Ray cluster: an existing one, or one started on this machine for the call.

Messages come back through Ray, so only the driver needs the folder of results. The machines of the cluster need
Polytask, the backbone, and the data under the same path (or from the hub). If they share the folder of results, any of
them can resume an interrupted pack.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from polytask.errors import PolytaskError
from polytask.launch.local import Message, Pack, Work, with_picklable_errors

CONNECT_TIMEOUT_S = 10
START_ATTEMPTS = 2


def run_packs(
    packs: Iterator[Pack],
    work: Work,
    *,
    address: str | None = None,
    gpus: float | None = None,
    cpus: float | None = None,
    num_cpus: int | None = None,
) -> Iterator[Message]:
    """Run packs, as many at a time as the cluster has room for.

    Args:
        packs: the next pack is taken when there is room for it.
        work: a function at the top level of a module. It finds its device in the pack, as ``device``.
        address: the cluster (``auto``, ``ray://host:10001``, …). None starts one on this machine.
        gpus: GPUs per pack. None: one if the cluster has any.
        cpus: CPUs per pack. None: a machine's cores divided by its packs.
        num_cpus: CPUs of the cluster that is started here. None: all cores.

    Raises:
        PolytaskError: Ray is not installed, the cluster cannot be started or reached, or no machine has the resources
            that a pack needs.
    """
    with cluster(address, num_cpus) as ray:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        resources = _pack_resources(machines, gpus, cpus)
        max_running = sum(_num_packs_on(machine, resources) for machine in machines)
        device = "cuda" if resources["GPU"] else "cpu"
        task = ray.remote(num_cpus=resources["CPU"], num_gpus=resources["GPU"], max_retries=0)(with_picklable_errors)
        running: list[Any] = []

        def start_packs() -> None:
            while len(running) < max_running and (pack := next(packs, None)) is not None:
                running.append(task.options(num_returns="streaming").remote(work, {**pack, "device": device}))

        start_packs()
        while running:
            (ready, *_), _ = ray.wait(running, num_returns=1)
            running.remove(ready)
            try:
                message = ray.get(next(ready))
            except StopIteration:
                start_packs()
                continue
            except ray.exceptions.RayTaskError as error:
                raise _original_error(error) from None
            except ray.exceptions.RayError as error:
                raise PolytaskError(f"the Ray cluster lost a pack: {_first_line(error)}") from None
            running.append(ready)
            yield message


@contextmanager
def cluster(address: str | None, num_cpus: int | None = None) -> Iterator[Any]:
    """The ``ray`` module, connected within the block; a connection that was there before stays.

    Raises:
        PolytaskError: as ``run_packs``.
    """
    try:
        import ray
    except ImportError:
        raise PolytaskError('this needs Ray, which is not installed: pip install "polytask[ray]"') from None
    was_initialized = ray.is_initialized()
    if not was_initialized:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if address is None:
            _start(ray, num_cpus)
        else:
            _connect(ray, address)
    try:
        yield ray
    finally:
        if not was_initialized:
            ray.shutdown()


def _start(ray: Any, num_cpus: int | None) -> None:
    """Start a cluster here. Ray gives its node 30 s, which a start on a busy machine may exceed: try again once."""
    for attempts_left in reversed(range(START_ATTEMPTS)):
        try:
            ray.init(num_cpus=num_cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:  # a bare Exception if the node does not start in time
            ray.shutdown()
            if not attempts_left:
                raise PolytaskError(f"a Ray cluster cannot be started here: {_first_line(error)}") from None


def _connect(ray: Any, address: str) -> None:
    try:
        _check_reachable(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray has no common base class for what can fail here
        raise PolytaskError(f"Ray cannot connect to {address}: {_first_line(error)}") from None


def _check_reachable(address: str) -> None:
    """Raise OSError if nothing listens at ``host:port``; Ray would try for minutes and then end this process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()


def _pack_resources(machines: list[dict[str, float]], gpus: float | None, cpus: float | None) -> dict[str, float]:
    """The GPUs and CPUs that each pack asks for; refused if no machine has them."""
    best = max(machines, key=lambda machine: (machine.get("GPU", 0), machine.get("CPU", 0)), default={})
    num_gpus = min(1.0, best.get("GPU", 0.0)) if gpus is None else float(gpus)
    num_packs = best.get("GPU", 0) / num_gpus if num_gpus else 1
    num_cpus = max(1, best.get("CPU", 0) // max(num_packs, 1)) if cpus is None else cpus
    resources = {"GPU": num_gpus, "CPU": float(num_cpus)}
    if not any(_num_packs_on(machine, resources) for machine in machines):
        there = "; ".join(f"{m.get('GPU', 0):g} GPUs and {m.get('CPU', 0):g} CPUs" for m in machines) or "no machine"
        raise PolytaskError(
            f"no machine of the Ray cluster has the {num_gpus:g} GPUs and {num_cpus:g} CPUs that a pack needs. "
            f"Its machines have: {there}"
        )
    return resources


def _num_packs_on(machine: dict[str, float], resources: dict[str, float]) -> int:
    """How many packs with these resources a machine can run at a time."""
    return int(min(machine.get(name, 0) // amount for name, amount in resources.items() if amount))


def _original_error(error: Any) -> Exception:
    """The exception that the work raised."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else PolytaskError(f"a pack failed: {error}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
