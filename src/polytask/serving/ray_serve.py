"""Serves the same application as Ray Serve replicas, each with all adapters, behind one address.

Model multiplexing is not used: it sends each model's requests to a replica of its own, so batches would not be mixed,
and an adapter takes only a few megabytes.
"""

from __future__ import annotations

import importlib.util
import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from polytask.architectures import Pooling
from polytask.backbones.loading import load_backbone
from polytask.errors import PolytaskError
from polytask.launch.ray import cluster
from polytask.serving.app import create_app
from polytask.serving.auth import Keys
from polytask.serving.limits import Limits
from polytask.serving.logs import configure
from polytask.serving.service import Service

NAME = "polytask"
NEEDED = ("ray", "aiohttp", "grpc_reflection")


@dataclass(frozen=True)
class Replica:
    """The settings of a replica. Backbone and store must have the same path on every machine."""

    backbone: str
    store: str
    limits: Limits
    keys: Keys
    device: str = "auto"
    dtype: str = "auto"
    max_length: int | None = None
    with_texts: bool = False
    pooling: Pooling | None = None

    def application(self) -> Any:
        """The application of one replica, with its own backbone."""
        configure()
        backbone = load_backbone(self.backbone, device=self.device, dtype=self.dtype, pooling=self.pooling)
        service = Service(backbone, self.store, self.limits, self.max_length)
        app = create_app(service, self.keys, with_texts=self.with_texts)
        app.add_middleware(WithoutRequestId)
        return app


class WithoutRequestId:
    """Drops ``x-request-id`` from responses: Ray's proxy passes an id to the replica and adds the header itself."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """An ASGI application."""

        async def send_without(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [(name, value) for name, value in message["headers"] if name.lower() != b"x-request-id"]
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, send_without)


def serve(
    replica: Replica,
    *,
    host: str,
    port: int,
    num_replicas: int,
    num_cpus: float = 1.0,
    address: str | None = None,
    until: threading.Event | None = None,
    on_start: Callable[[], None] = lambda: None,
) -> None:
    """Serve on a cluster until SIGTERM or Ctrl-C, or until ``until`` is set.

    Args:
        num_cpus: CPUs of each replica.
        address: address of a cluster (``auto``, ``ray://host:10001``, …); None starts one on this machine.

    Raises:
        PolytaskError: Ray Serve is not installed, the cluster cannot be reached or has too few CPUs.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise PolytaskError(f'this needs {missing[0]}, which is not installed: pip install "polytask[ray-serve]"')
    with cluster(address) as ray:
        check_cpus(ray.cluster_resources().get("CPU", 0.0), num_replicas, num_cpus)
        from ray import serve as ray_serve

        def application() -> Any:
            return replica.application()

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        ray_serve.start(http_options={"host": host, "port": port}, logging_config={"log_level": "ERROR"})
        deployment = ray_serve.deployment(
            name=NAME,
            num_replicas=num_replicas,
            max_ongoing_requests=1024,
            graceful_shutdown_timeout_s=replica.limits.drain_s,
            ray_actor_options={"num_cpus": num_cpus},
        )(ray_serve.ingress(application)())
        try:
            ray_serve.run(deployment.bind(), name=NAME, route_prefix="/")
            stopped = until or stopped_by_signal()  # not earlier: Ray sets a handler that aborts the process
            on_start()
            stopped.wait()
        finally:
            ray_serve.shutdown()  # type: ignore[no-untyped-call]


def check_cpus(available: float, num_replicas: int, num_cpus: float) -> None:
    """Check that the cluster has enough CPUs; Ray would wait for them without a message.

    Raises:
        PolytaskError: it has too few.
    """
    if num_replicas * num_cpus > available:
        raise PolytaskError(
            f"{num_replicas} replicas with {num_cpus:g} CPUs each do not fit: the Ray cluster has {available:g} CPUs. "
            "Lower --replicas"
        )


def stopped_by_signal() -> threading.Event:
    """An event that is set by SIGTERM and Ctrl-C."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    return stopped
