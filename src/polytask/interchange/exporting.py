"""Exports an adapter to the files of another library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from polytask.adapters.adapter import Adapter
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.errors import AdapterError, UnknownName
from polytask.interchange.adapterhub_export import write_adapterhub
from polytask.interchange.files import whole_folder
from polytask.interchange.label_thresholds import label_thresholds_of, write_label_thresholds
from polytask.interchange.merged import write_merged
from polytask.interchange.peft_export import write_peft

Format = Literal["peft", "adapterhub", "merged"]
GivenBackbone = Backbone | str | Path | None


NO_DETECTOR = """
The adapter detects texts that have none of its labels. These files do not: here every text gets a label.
"""


def export_adapter(
    adapter: Adapter, folder: str | Path, to: Format, *, backbone: Backbone | str | Path | None = None
) -> Path:
    """Write an adapter as files of another library, with a README that shows how to use them.

    Scores are calibrated. If labels have thresholds, the README and ``polytask.json`` (``holds_from``) give the least
    probability of each.

    Args:
        adapter: a classification, multi-label or regression adapter.
        folder: a new or empty folder; it is written completely or not at all.
        to: ``peft``, ``adapterhub`` (the ``adapters`` library) or ``merged``, a plain transformers checkpoint.
        backbone: for ``merged``, the backbone that the adapter was trained on; by default the one in its header.

    Returns:
        The folder.

    Raises:
        AdapterError: the format has no equivalent of the method.
        IncompatibleAdapter: the adapter was trained on another backbone.
        WriteError: the folder exists and is not empty, or cannot be written.
    """
    if not isinstance(adapter, Adapter):
        what = type(adapter).__name__
        raise AdapterError(f"{what} is not an adapter. Read it: pt.Store(folder).get(name), or pt.Adapter.load(file)")
    if to not in _WRITERS:
        raise UnknownName("format", to, _WRITERS)
    if adapter.header.head.kind == "span":
        raise AdapterError("a question-answering adapter cannot be exported: only heads on a pooled text can")
    thresholds = label_thresholds_of(adapter.header)
    adapter = adapter.folded()
    with whole_folder(folder) as part:
        _WRITERS[to](adapter, part, backbone)
        if thresholds is not None:
            write_label_thresholds(part, adapter.header, thresholds)
        if adapter.header.decides.get("none") is not None:
            with (part / "README.md").open("a", encoding="utf-8") as readme:
                readme.write(NO_DETECTOR)
    return Path(folder)


def _write_merged(adapter: Adapter, folder: Path, backbone: GivenBackbone) -> None:
    if not isinstance(backbone, Backbone):
        header = adapter.header
        name = backbone or header.backbone.name
        backbone = load_backbone(name, pooling=header.pooling, device="cpu", dtype="float32")
    write_merged(adapter, backbone, folder)


_WRITERS: dict[Format, Callable[[Adapter, Path, GivenBackbone], None]] = {
    "peft": lambda adapter, folder, _: write_peft(adapter, folder),
    "adapterhub": lambda adapter, folder, _: write_adapterhub(adapter, folder),
    "merged": _write_merged,
}
"""The writer of each format."""
