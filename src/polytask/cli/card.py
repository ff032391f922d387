"""An adapter's card: its data, recipe, origin, and scores with confidence intervals.

The panel on the terminal and the Markdown model card show the same facts. ``recipe`` and ``result`` of a header are
free JSON and may come from anyone, so every value in them is checked.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polytask.adapters.provenance import start_in_words
from polytask.cli.card_calibration import calibration_facts, reliability_diagram
from polytask.cli.wording import bytes_in_words, counted, seconds_in_words
from polytask.errors import printable

if TYPE_CHECKING:
    from polytask.adapters.header import Header
    from polytask.adapters.store import Entry

_PIPELINES = {"classification": "text-classification", "multilabel": "text-classification"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def facts(entry: Entry) -> list[tuple[str, str]]:
    """The facts about an adapter: the names and values that the card shows."""
    header, result, recipe = entry.header, entry.header.result, entry.header.recipe
    train, where = _object(result.get("train")), _object(result.get("environment"))
    settings = ", ".join(f"{key} {value}" for key, value in header.method.settings().items() if value is not None)
    of = header.backbone
    found = [
        ("task", f"{header.task}, {header.head.kind}"),
        *((f"{part} score", score) for part in ("test", "validation") if (score := _score(result.get(part)))),
        ("score", "" if result.get("validation") else f"{header.metric} {header.score:.4f}"),
        ("probe", _score(result.get("probe"))),
        ("majority class", _majority(entry)),
        *calibration_facts(header),
        ("method", f"{header.method.name} ({settings})"),
        ("layers with adapters", _layers(header)),
        ("started from", "" if header.start is None else start_in_words(header.start)),
        ("trained together", ", ".join(map(str, _list(result.get("together"))))),
        ("backbone", f"{shown_name(of.name)}, {of.architecture}, {of.layers} layers of width {of.hidden}"),
        ("backbone's fingerprint", of.fingerprint),
        ("tokenizer's fingerprint", header.tokenizer),
        ("pooling", header.pooling),
        ("data digest", str(result.get("data_digest", ""))),
        ("training", _training(train, recipe)),
        ("truncated", _counted(result.get("truncated") or None, "training text")),
        (
            "recipe",
            ", ".join(f"{key} {value}" for key, value in recipe.items() if key != "method" and value is not None),
        ),
        ("hardware", ", ".join(str(where[key]) for key in ("hardware", "device", "dtype") if key in where)),
        ("threads", str(where.get("threads", ""))),
        ("versions", ", ".join(f"{name} {version}" for name, version in header.versions.items())),
        ("created", header.created),
        ("digest", header.digest),
        ("size", bytes_in_words(entry.size_bytes)),
    ]
    return [(name, value) for name, value in found if value]


def _layers(header: Header) -> str:
    """How many layers have adapters, if not all."""
    layers = header.method.settings().get("layers")
    if layers is None:
        return ""
    num_trained = layers if isinstance(layers, int) else len(layers)
    return f"{num_trained} of {header.backbone.layers}: faster to train, usually less accurate than all"


def label_counts(entry: Entry) -> dict[str, int | None]:
    """Number of training rows per label; None if the header has no count."""
    counts = _object(entry.header.result.get("label_counts"))
    return {label: counts[label] if isinstance(counts.get(label), int) else None for label in entry.labels}


def markdown(entry: Entry, repository: str | None = None) -> str:
    """The model card: YAML front matter for the hub, then Markdown.

    Args:
        entry: the adapter.
        repository: ``OWNER/NAME`` on the hub, if the card is for an adapter there.
    """
    header = entry.header
    file = f"pt.Adapter.load({json.dumps(f'{entry.version}.safetensors')})"
    load = f"store.put({file})" if repository is None else f"store.pull({json.dumps(repository)})"
    labels = [f"| {_escaped(label)} | {'' if rows is None else rows} |" for label, rows in label_counts(entry).items()]
    parts = [
        "---",
        *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in _front(entry).items()),
        "---",
        "",
        f"# {_escaped(str(entry))}",
        "",
        f"An adapter of {_escaped(shown_name(header.backbone.name))} for a {header.head.kind} task, trained "
        "with Polytask. It contains only what the task adds to the frozen transformer. It works with that transformer "
        "only, and checks its fingerprint.",
        "",
        "## Use",
        "",
        "```python",
        "import polytask as pt",
        "",
        'store = pt.Store("adapters")',
        load,
        f"backbone = pt.load_backbone({json.dumps(_hub_id(header.backbone.name) or 'path/to/the/backbone')})",
        f'pt.MultiTask(backbone, store).predict(["a text"], task={json.dumps(entry.task)})',
        "```",
        "",
        "## Facts",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {_escaped(value)} |" for name, value in facts(entry)),
    ]
    if labels:
        parts += ["", "## Labels", "", "| label | training rows |", "|---|---:|", *labels]
    parts += reliability_diagram(header)
    parts += ["", "Intervals are 95% bootstrap intervals over 1,000 resamples of the rows.", ""]
    return "\n".join(parts)


def shown_name(backbone: str) -> str:
    """A backbone's name; of a local folder, only the last part of its path."""
    path = Path(backbone)
    return path.name if path.is_absolute() or backbone.startswith((".", "~")) else backbone


def _front(entry: Entry) -> dict[str, Any]:
    header, base = entry.header, _hub_id(entry.header.backbone.name)
    front: dict[str, Any] = {"library_name": "polytask", "tags": ["polytask", "adapter", header.method.name]}
    if header.head.kind in _PIPELINES:
        front["pipeline_tag"] = _PIPELINES[header.head.kind]
    if base:
        front |= {"base_model": base, "base_model_relation": "adapter"}
    return front | {"metrics": [header.metric]}


def _hub_id(name: str) -> str | None:
    """The hub id of a backbone; None for a folder."""
    from polytask.backbones.checkpoint import ALIASES

    if name in ALIASES:
        return ALIASES[name][2]
    return name if _HUB_ID.fullmatch(name) and not Path(name).is_dir() else None


def _training(train: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    parts = [
        *(_counted(train.get(f"{noun}s"), noun) for noun in ("row", "epoch", "token")),
        seconds_in_words(train["seconds"]) if _is_number(train.get("seconds")) else "",
        f"seed {recipe['seed']}" if "seed" in recipe else "",
    ]
    return ", ".join(part for part in parts if part)


def _score(given: Any) -> str:
    of = _object(given)
    if not _is_number(of.get("score")):
        return ""
    bounds = of.get("interval")
    is_interval = isinstance(bounds, list) and len(bounds) == 2 and all(map(_is_number, bounds))
    within = f" ({bounds[0]:.4f} to {bounds[1]:.4f})" if is_interval and bounds else ""
    return f"{of.get('metric', '')} {of['score']:.4f}{within} on {of.get('rows', '?')} rows".strip()


def _majority(entry: Entry) -> str:
    """``accuracy 0.6000, the most frequent label of the training rows ('ham') for every row``."""
    value, counts = entry.header.result.get("majority"), label_counts(entry)
    if not _is_number(value):
        return ""
    label = max(counts, key=lambda label: counts[label] or 0) if counts and all(counts.values()) else None
    named = "" if label is None else f" ({label!r})"
    return f"{entry.header.metric} {value:.4f}, the most frequent label of the training rows{named} for every row"


def _object(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {}


def _list(given: Any) -> list[Any]:
    return given if isinstance(given, list) else []


def _counted(given: Any, noun: str) -> str:
    return counted(given, noun) if isinstance(given, int) else ""


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool)


def _escaped(text: str) -> str:
    """The text on one line, escaped for Markdown, also within a table."""
    return re.sub(r"([\\`*_{}\[\]#|])", r"\\\1", html.escape(printable(" ".join(text.split())), quote=False))
