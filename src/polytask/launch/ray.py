"""Packs run on a Ray cluster, or on a cluster that is started here for them.

The messages of a pack come back through Ray as they are made, so nothing but the driver needs to see the folder of
results. Machines of the cluster need Polytask, the data under the same path (or the hub), and the backbone; where they
share the folder of results, an interrupted pack is taken up again on any of them.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from polytask.errors import PolytaskError
from polytask.launch.local import Message, Pack, Work, portable

PATIENCE_S = 10


def run(
    packs: Iterator[Pack],
    work: Work,
    *,
    address: str | None = None,
    gpus: float | None = None,
    cpus: float | None = None,
    num_cpus: int | None = None,
) -> Iterator[Message]:
    """Run packs, as many at once as the cluster has room for.

    Args:
        packs: taken when there is room for the next one.
        work: at the top level of a module. A pack's ``device`` is set for it.
        address: of a cluster (``auto``, ``ray://host:10001``, …); None starts one on this machine.
        gpus: of each pack; None for one where the cluster has any.
        cpus: of each pack; None for its share: a machine's cores divided by its GPUs, or all of them.
        num_cpus: of the cluster that is started here; None for all cores.

    Raises:
        PolytaskError: Ray is not installed, the cluster cannot be reached, or no machine has what a pack asks for.
    """
    with _cluster(address, num_cpus) as ray:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        asked = _asked(machines, gpus, cpus)
        room = sum(_fits(machine, asked) for machine in machines)
        device = "cuda" if asked["GPU"] else "cpu"
        remote = ray.remote(num_cpus=asked["CPU"], num_gpus=asked["GPU"], max_retries=0)(portable)
        running: list[Any] = []

        def start() -> None:
            while len(running) < room and (pack := next(packs, None)) is not None:
                running.append(remote.options(num_returns="streaming").remote(work, {**pack, "device": device}))

        start()
        while running:
            (ready, *_), _ = ray.wait(running, num_returns=1)
            running.remove(ready)
            try:
                message = ray.get(next(ready))
            except StopIteration:
                start()
                continue
            except ray.exceptions.RayTaskError as error:
                raise _cause(error) from None
            except ray.exceptions.RayError as error:
                raise PolytaskError(f"the cluster lost a pack: {_first_line(error)}") from None
            running.append(ready)
            yield message


@contextmanager
def _cluster(address: str | None, num_cpus: int | None) -> Iterator[Any]:
    try:
        import ray
    except ImportError:
        raise PolytaskError('this needs Ray, which is not installed: pip install "polytask[ray]"') from None
    options: dict[str, Any] = {"include_dashboard": False, "num_cpus": num_cpus} if address is None else {}
    was_there = ray.is_initialized()
    if not was_there:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told that it runs
        try:
            _listens(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (OSError, RuntimeError, ValueError) as error:
            raise PolytaskError(
                f"the Ray cluster {address or 'here'} cannot be reached: {_first_line(error)}"
            ) from None
    try:
        yield ray
    finally:
        if not was_there:
            ray.shutdown()


def _listens(address: str | None) -> None:
    """Ray itself takes minutes to find out that nobody is at ``host:port``, and then ends the process."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()


def _asked(machines: list[dict[str, float]], gpus: float | None, cpus: float | None) -> dict[str, float]:
    """What each pack asks for, once it is known that a machine has it."""
    best = max(machines, key=lambda machine: (machine.get("GPU", 0), machine.get("CPU", 0)), default={})
    num_gpus = min(1.0, best.get("GPU", 0.0)) if gpus is None else float(gpus)
    num_packs = best.get("GPU", 0) / num_gpus if num_gpus else 1
    num_cpus = max(1, best.get("CPU", 0) // max(num_packs, 1)) if cpus is None else cpus
    asked = {"GPU": num_gpus, "CPU": float(num_cpus)}
    if not any(_fits(machine, asked) for machine in machines):
        there = "; ".join(f"{m.get('GPU', 0):g} GPUs and {m.get('CPU', 0):g} CPUs" for m in machines) or "no machine"
        raise PolytaskError(
            f"no machine of the Ray cluster has the {num_gpus:g} GPUs and {num_cpus:g} CPUs that a pack asks for. "
            f"There are machines with: {there}"
        )
    return asked


def _fits(machine: dict[str, float], asked: dict[str, float]) -> int:
    """How many packs a machine takes at once."""
    return int(min(machine.get(name, 0) // amount for name, amount in asked.items() if amount))


def _cause(error: Any) -> Exception:
    """What went wrong in the work, as it would have been raised here."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else PolytaskError(f"a pack failed: {error}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
