"""``polytask inspect``: show the sites and trained parameters of a method on a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from polytask.cli import console, options, wording
from polytask.cli.method_options import method_of
from polytask.cli.options import app, examples, print_json
from polytask.errors import PolytaskError

if TYPE_CHECKING:
    from polytask.architectures import Architecture
    from polytask.methods import Method

FLOAT32_BYTES = 4


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
        typer.Option(metavar="FOLDER_OR_JSON", help="Count from a config.json, without weights or network."),
    ] = None,
    method: options.MethodName = "houlsby",
    size: options.Size = None,
    setting: options.Settings = None,
    as_json: options.AsJson = False,
) -> None:
    """Show which parts of a backbone a method changes, layer by layer, and how many parameters it trains."""
    chosen = method_of(method, size, setting)
    if (backbone is None) == (config is None):
        raise PolytaskError("name one thing to inspect: a backbone, or --config FOLDER_OR_JSON")
    from polytask.backbones.loading import empty_backbone, empty_model

    model, architecture = empty_backbone(backbone or "") if config is None else empty_model(config)
    name = backbone or config or ""
    chosen = chosen.fitted(architecture.is_pre_norm)
    sites = trained_by_site(model, architecture, chosen)
    trained, total = sum(sites.values()), sum(p.numel() for p in model.parameters())
    parameters = {"trained": trained, "backbone": total, "percent": 100 * trained / total}
    size_bytes = FLOAT32_BYTES * trained
    if as_json:
        listed = [{"site": site, "parameters": number} for site, number in sites.items()]
        print_json({"sites": listed, "parameters": parameters, "bytes": size_bytes})
        return
    kind = str(getattr(model.config, "model_type", ""))
    console.terminal().print(layer_table(name, kind, chosen, sites, parameters, size_bytes))


def trained_by_site(model: Any, architecture: Architecture, method: Method) -> dict[str, int]:
    """Number of trained parameters by site; for full and top-n fine-tuning, by parameter of the backbone."""
    from polytask.adapters.attach import deltas_for, replaced_parameters
    from polytask.methods import Replacement

    if isinstance(method, Replacement):
        own = dict(model.named_parameters())
        return {name: own[name].numel() for name in replaced_parameters(model, architecture, method)}
    deltas = deltas_for(model, architecture, method, key=None)
    return {place: sum(p.numel() for p in delta.parameters()) for place, delta in deltas.items()}


def layer_table(
    name: str, kind: str, method: Method, sites: Mapping[str, int], parameters: Mapping[str, Any], size_bytes: int
) -> RenderableType:
    """One line per layer with its sites, and the totals."""
    by_layer: dict[str, list[tuple[str, int]]] = {}
    for site, number in sites.items():
        layer, what = _layer_and_rest(site)
        by_layer.setdefault(layer, []).append((what, number))
    table = console.grid("where", "trained", "parameters", right=("parameters",))
    for layer, trained_there in by_layer.items():
        shown = Text(", ".join(f"{what} {number:,}" for what, number in trained_there))
        table.add_row(layer, shown, f"{sum(number for _, number in trained_there):,}")
    rows: list[tuple[str, RenderableType]] = [
        ("trained", f"{parameters['trained']:,} parameters; a head is added for each task"),
        ("backbone", f"{parameters['backbone']:,} parameters, embeddings included"),
        ("share", f"{parameters['percent']:.3f}% of the backbone's parameters per task"),
        (
            "on disk",
            f"{wording.bytes_in_words(size_bytes)} ({size_bytes:,} bytes) per task, in fp32, without head and header",
        ),
    ]
    settings = ", ".join(f"{key}={value}" for key, value in method.settings().items() if value is not None)
    return Group(table, console.panel(f"{method.name}({settings}) on {name} ({kind})", rows))


def _layer_and_rest(site: str) -> tuple[str, str]:
    """``layer 3`` and ``attn_out`` for ``layer.3.attn_out``; also for the backbone's parameter names."""
    parts = site.split(".")
    number = next((at for at, part in enumerate(parts) if part.isdigit()), None)
    if number is None:
        return parts[0] if len(parts) > 1 else "once", ".".join(parts[1:]) or site
    return f"layer {parts[number]}", ".".join(parts[number + 1 :])
