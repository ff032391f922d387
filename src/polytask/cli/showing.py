"""``polytask tasks``, ``inspect``, ``remove`` and ``demo``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from polytask import screen
from polytask.cli import options
from polytask.cli.methods import method_of
from polytask.cli.options import THEIRS, app, emit, examples, loaded, refused
from polytask.errors import PolytaskError, StoreError

if TYPE_CHECKING:
    from polytask.architectures import Architecture
    from polytask.methods import Method
    from polytask.store import Entry

FLOAT32_BYTES = 4


@app.command(epilog=examples("polytask tasks", "polytask tasks --store team/adapters --verify"))
def tasks(
    store: options.StoreFolder = "adapters",
    verify: Annotated[bool, typer.Option("--verify", help="Read every file to its last byte.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """List the adapters of a store."""
    from polytask.store import Store

    adapters = Store(store)
    found = adapters.list()
    problems = adapters.verify() if verify else []
    if as_json:
        emit([described(entry) for entry in found])
    elif found:
        screen.terminal().print(screen.entries(found))
    else:
        where = "" if store == "adapters" else f" --store {store}"
        is_there = "://" in store or Path(store).is_dir()
        missing = (
            f"There is no adapter in {store} yet." if is_there else f"There is no folder {store}, so no adapter yet."
        )
        screen.terminal().print(missing, soft_wrap=True)
        screen.hint(screen.terminal(), f"polytask train your.csv --task NAME{where}")
    if problems:
        raise refused("\n".join(map(str, problems)), THEIRS)
    unread = sum(len(adapters.versions(task)) for task in adapters.tasks()) - len(found)
    if unread:
        remark = f"{screen.counted(unread, 'file')} in {store} cannot be read; polytask tasks --verify says why"
        screen.notes(screen.terminal(stderr=True), [remark])


def described(entry: Entry) -> dict[str, Any]:
    """What ``tasks --json`` prints of an adapter."""
    header = entry.header.to_object()
    shown = ("head", "method", "backbone", "metric", "score", "created", "digest")
    own = {"task": entry.task, "version": entry.version, "aliases": list(entry.aliases)}
    return {**own, **{name: header[name] for name in shown}, "path": entry.path, "bytes": entry.size_bytes}


@app.command(
    epilog=examples(
        "polytask inspect minilm --method houlsby --size 64",
        "polytask inspect --config bert-large/config.json --method lora --set rank=16",
    )
)
def inspect(
    backbone: Annotated[str | None, typer.Argument(help="A hub id, a folder, or minilm.", show_default=False)] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="FOLDER_OR_JSON", help="Count from a config.json: no weights, no network."),
    ] = None,
    method: options.MethodName = "houlsby",
    size: options.Size = None,
    setting: options.Settings = None,
    as_json: options.AsJson = False,
) -> None:
    """Show where a method acts in a backbone, layer by layer, and what it trains."""
    chosen = method_of(method, size, setting)
    if (backbone is None) == (config is None):
        raise PolytaskError("name one thing to inspect: a backbone, or --config FOLDER_OR_JSON")
    if config is not None:
        from polytask.backbones import empty_model

        model, architecture = empty_model(config)
        name = config
    else:
        assert backbone is not None
        frozen = loaded(backbone, "cpu", "float32")
        model, architecture, name = frozen.model, frozen.row, backbone
    sites = counted(model, architecture, chosen)
    trained, total = sum(sites.values()), sum(p.numel() for p in model.parameters())
    parameters = {"trained": trained, "backbone": total, "percent": 100 * trained / total}
    size_bytes = FLOAT32_BYTES * trained
    if as_json:
        listed = [{"site": site, "parameters": number} for site, number in sites.items()]
        emit({"sites": listed, "parameters": parameters, "bytes": size_bytes})
        return
    kind = str(getattr(model.config, "model_type", ""))
    screen.terminal().print(inspected(name, kind, chosen, sites, parameters, size_bytes))


def counted(model: Any, architecture: Architecture, method: Method) -> dict[str, int]:
    """Trained parameters by site, or by the backbone's own parameters where copies of those are trained."""
    from polytask.attach import deltas_for, replaced_parameters
    from polytask.methods import Replacement

    if isinstance(method, Replacement):
        own = dict(model.named_parameters())
        return {name: own[name].numel() for name in replaced_parameters(model, architecture, method)}
    deltas = deltas_for(model, architecture, method, key=None)
    return {place: sum(p.numel() for p in delta.parameters()) for place, delta in deltas.items()}


def inspected(
    name: str, kind: str, method: Method, sites: Mapping[str, int], parameters: Mapping[str, Any], size_bytes: int
) -> RenderableType:
    """Where a method acts, one line a layer, and what that amounts to."""
    by_layer: dict[str, list[tuple[str, int]]] = {}
    for site, number in sites.items():
        layer, what = _layer_and_rest(site)
        by_layer.setdefault(layer, []).append((what, number))
    table = screen.grid("where", "trained there", "parameters", right=("parameters",))
    for layer, trained_there in by_layer.items():
        shown = Text(", ".join(f"{what} {number:,}" for what, number in trained_there))
        table.add_row(layer, shown, f"{sum(number for _, number in trained_there):,}")
    rows: list[tuple[str, RenderableType]] = [
        ("trained", f"{parameters['trained']:,} parameters; a head is added for each task"),
        ("backbone", f"{parameters['backbone']:,} parameters, embeddings included"),
        ("per cent", f"{parameters['percent']:.3f}% of the backbone a task"),
        (
            "on disk",
            f"{screen.bytes_in_words(size_bytes)} ({size_bytes:,} bytes) a task, in fp32, without head and header",
        ),
    ]
    settings = ", ".join(f"{key}={value}" for key, value in method.settings().items() if value is not None)
    return Group(table, screen.panel(f"{method.name}({settings}) on {name} ({kind})", rows))


def _layer_and_rest(site: str) -> tuple[str, str]:
    """``layer 3`` and ``attn_out`` of ``layer.3.attn_out``; the same of a backbone's own parameter names."""
    parts = site.split(".")
    number = next((at for at, part in enumerate(parts) if part.isdigit()), None)
    if number is None:
        return parts[0] if len(parts) > 1 else "once", ".".join(parts[1:]) or site
    return f"layer {parts[number]}", ".".join(parts[number + 1 :])


@app.command(epilog=examples("polytask remove spam@2", "polytask remove spam --yes"))
def remove(
    name: Annotated[str, typer.Argument(help="A version (spam@2), or a task with all of its versions (spam).")],
    store: options.StoreFolder = "adapters",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before several versions are removed.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Remove an adapter from the store. Its number is not used again; no other adapter changes."""
    from polytask.store import Store

    adapters = Store(store)
    doomed = [str(adapters.entry(name))] if "@" in name else [f"{name}@{n}" for n in adapters.versions(name)]
    if len(doomed) > 1 and not yes:
        if not sys.stdin.isatty():
            raise StoreError(f"{name} has {len(doomed)} versions. Remove all with --yes, or one: {doomed[-1]}")
        typer.confirm(f"Remove {', '.join(doomed)}?", abort=True, err=True)
    adapters.remove(name)
    if as_json:
        emit({"removed": doomed})
    else:
        screen.terminal().print(f"removed {', '.join(doomed)} from {store}")


@app.command(epilog=examples("polytask demo", "polytask demo --store somewhere/else"))
def demo(
    store: options.StoreFolder = "demo-adapters",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    seed: Annotated[int, typer.Option(help="Draws the rows and starts the weights.")] = 0,
) -> None:
    """Train three real tasks on one frozen backbone, and see that none changes another. Takes a few minutes."""
    from polytask.demo.show import run

    run(screen.terminal(), screen.terminal(stderr=True), store=store, device=device, dtype=dtype, seed=seed)
