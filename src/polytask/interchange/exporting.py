"""Exports an adapter to the files of another library."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from polytask.adapters.adapter import Adapter
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import load_backbone
from polytask.errors import AdapterError, UnknownName
from polytask.interchange.adapterhub_export import write_adapterhub
from polytask.interchange.cuts import cuts_of, name_cuts
from polytask.interchange.files import whole_folder
from polytask.interchange.merged import write_merged
from polytask.interchange.peft_export import write_peft

Format = Literal["peft", "adapterhub", "merged"]


def export_adapter(
    adapter: Adapter, folder: str | Path, to: Format, *, backbone: Backbone | str | Path | None = None
) -> Path:
    """Write an adapter as files of another library, with a README that shows how to use them.

    Scores are calibrated. Where a label holds from some probability on only, of several labels or by thresholds, the
    README and ``polytask.json`` (``holds_from``) say from which.

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
    if to not in get_args(Format):
        raise UnknownName("format", to, get_args(Format))
    if adapter.header.head.kind == "span":
        raise AdapterError("a question-answering adapter cannot be exported: only heads on a pooled text can")
    cuts = cuts_of(adapter.header)
    adapter = adapter.folded()
    with whole_folder(folder) as part:
        if to == "merged":
            write_merged(adapter, _loaded(adapter, backbone), part)
        else:
            {"peft": write_peft, "adapterhub": write_adapterhub}[to](adapter, part)
        if cuts is not None:
            name_cuts(part, adapter.header, cuts)
    return Path(folder)


def _loaded(adapter: Adapter, backbone: Backbone | str | Path | None) -> Backbone:
    if isinstance(backbone, Backbone):
        return backbone
    header = adapter.header
    return load_backbone(backbone or header.backbone.name, pooling=header.pooling, device="cpu", dtype="float32")
