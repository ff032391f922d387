"""``polytask serve``: serves all adapters of a store over HTTP."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from polytask.cli import options
from polytask.cli.options import app, examples, load_backbone, print_json, spinner
from polytask.errors import PolytaskError, UnknownName

if TYPE_CHECKING:
    from polytask.architectures import Pooling

REQUIRED = ("fastapi", "uvicorn", "prometheus_client", "pydantic")


@app.command(
    epilog=examples(
        "polytask serve --store adapters",
        "polytask serve --store adapters --host 0.0.0.0 --keys keys.txt",
        "polytask serve --new-key infer,metrics",
        "polytask serve --on ray --replicas 4 --port 8000",
    )
)
def serve(
    store: options.StoreFolder = "adapters",
    pull: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OWNER/NAME",
            help="Before serving, download this adapter from the Hugging Face hub into the store, unless it is there.",
        ),
    ] = None,
    backbone: options.OfBackbone = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; without keys only a loopback address.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 chooses a free one.")] = 8000,
    keys: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="File of API key hashes, one per line; keys can also be given in POLYTASK_KEYS."
        ),
    ] = None,
    new_key: Annotated[
        str | None,
        typer.Option(
            metavar="SCOPES",
            help="Print a new key with these scopes (infer,manage,metrics) and its line for FILE, then exit.",
        ),
    ] = None,
    memory: Annotated[
        float,
        typer.Option(metavar="GB", min=0, help="Memory for adapters; beyond it the least recently used are evicted."),
    ] = 4.0,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Maximum tokens of a batch.")] = 2048,
    max_wait_ms: Annotated[
        float,
        typer.Option(min=0, help="How long an idle server waits for requests that are being tokenized, to batch them."),
    ] = 2.0,
    queue_tokens: Annotated[
        int, typer.Option(min=1, help="Maximum tokens accepted and not yet answered; then requests get status 429.")
    ] = 65536,
    max_queue: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.001,
            help="Maximum expected time to answer all accepted tokens; then requests get 429.",
        ),
    ] = 5.0,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.001, help="Deadline of a request.")] = 30.0,
    poll: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.01, help="Interval between scans of the store.")
    ] = 1.0,
    max_length: Annotated[
        int | None, typer.Option(help="Maximum tokens of a text (default: as each adapter was trained).")
    ] = None,
    log_texts: Annotated[bool, typer.Option("--log-texts", help="Write the texts of requests to the log.")] = False,
    on: Annotated[
        str, typer.Option(metavar="here|ray", help="Serve in this process, or as replicas on a Ray cluster.")
    ] = "here",
    replicas: Annotated[int, typer.Option(min=1, help="With --on ray: number of replicas; each has all adapters.")] = 1,
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="With --on ray: address of a cluster (default: start one here)."),
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
) -> None:
    """Serve all adapters of a store from one process: a web page, a JSON API and Prometheus metrics.

    New versions in the store are picked up while it runs. Without keys it listens on this machine only.
    """
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        raise PolytaskError(f'this needs {missing[0]}, which is not installed: pip install "polytask[serve]"')
    from polytask.serving.auth import VARIABLE, read_keys
    from polytask.serving.auth import new_key as made_key
    from polytask.serving.limits import Limits
    from polytask.serving.run import check_host
    from polytask.serving.run import serve as run
    from polytask.serving.service import Service

    if new_key is not None:
        key, line = made_key(new_key)
        print_json({"key": key, "line": line})
        return
    if on not in ("here", "ray"):
        raise UnknownName("value of --on", on, ("here", "ray"))
    known = read_keys(keys, os.environ.get(VARIABLE))
    check_host(host, known)
    pull_missing(store, pull or ())
    limits = Limits(
        memory_bytes=int(memory * 1e9),
        batch_tokens=batch_tokens,
        max_wait_s=max_wait_ms / 1000,
        queue_tokens=queue_tokens,
        queue_s=max_queue,
        timeout_s=timeout,
        poll_s=poll,
    )
    name, pooling = (backbone, None) if backbone is not None else backbone_and_pooling_of(store)
    if on == "ray":
        from polytask.serving.ray_serve import Replica
        from polytask.serving.ray_serve import serve as run_on_ray

        replica = Replica(name, os.path.abspath(store), limits, known, device, dtype, max_length, log_texts, pooling)
        message = f"serving on Ray at http://{host}:{port}/"
        run_on_ray(
            replica,
            host=host,
            port=port,
            num_replicas=replicas,
            address=ray_address,
            on_start=lambda: typer.echo(message, err=True),
        )
        return
    frozen = load_backbone(name, device, dtype, pooling)
    run(Service(frozen, store, limits, max_length), known, host=host, port=port, with_texts=log_texts)


def pull_missing(folder: str, repositories: Sequence[str]) -> None:
    """Download adapters from the hub into the store. One that is there already, by its digest, gets no new version."""
    from polytask.adapters.store import Store
    from polytask.interchange.hub import load_from_hub
    from polytask.training.to_store import put_once

    for repository in repositories:
        with spinner(f"pulling {repository}"):
            entry = put_once(Store(folder), load_from_hub(repository))
        typer.echo(f"{entry} is {repository}", err=True)


def backbone_and_pooling_of(folder: str) -> tuple[str, Pooling | None]:
    """The name of the backbone that the store's newest adapter was trained on, and its pooling.

    Raises:
        PolytaskError: the store is empty.
    """
    from polytask.adapters.store import Store

    entries = Store(folder).list()
    if not entries:
        raise PolytaskError(f"there is no adapter in {folder} yet. Train one with polytask train, or name a --backbone")
    header = max(entries, key=lambda entry: entry.created).header
    return header.backbone.name, header.pooling
