"""Imports an adapter that another library saved."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polytask.adapters.adapter import Adapter
from polytask.adapters.header import plain_name
from polytask.architectures import Pooling
from polytask.backbones.backbone import Backbone
from polytask.backbones.checkpoint import config_named
from polytask.backbones.loading import load_backbone
from polytask.data.metric_names import default_metric
from polytask.data.task import KINDS, Kind
from polytask.errors import AdapterError, BackboneError, PolytaskError, UnknownName, WrongBackbone
from polytask.interchange import adapterhub, peft
from polytask.interchange.files import Files, files_at
from polytask.interchange.foreign import BackboneConfig, ForeignAdapter, ForeignHead
from polytask.interchange.head_layers import head_layers
from polytask.interchange.separate_head import saved_labels

UNNAMED = "LABEL_"


def import_adapter(
    source: str | Path,
    task: str,
    *,
    backbone: Backbone | str | Path | None = None,
    labels: Sequence[str] | None = None,
    kind: Kind | None = None,
    max_length: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> Adapter:
    """Read an adapter with its head from files of peft or adapter-hub's ``adapters`` library.

    Args:
        source: a folder, or ``OWNER/NAME`` or ``OWNER/NAME@revision`` on the hub.
        task: the name of the task.
        backbone: the backbone that it was trained on; by default the one in its files.
        labels: names of the labels in the order of the head's outputs; by default those in the files or the
            backbone's configuration, else ``LABEL_0`` and so on.
        kind: ``classification``, ``multilabel`` or ``regression``; by default the kind in the files, else
            regression for one output and classification for more.
        max_length: maximum tokens of a text; by default that of the backbone.
        device: device of the backbone.
        dtype: dtype of the backbone's weights.

    Returns:
        An adapter, ready for a store. Its score is 0, because it was not evaluated.

    Raises:
        AdapterError: the adapter's kind or a setting is not supported.
        BackboneError: the backbone cannot be loaded, or its pooling differs from that of the head.
    """
    plain_name(task)
    if kind is not None and kind not in KINDS[:3]:
        raise UnknownName("kind of an imported task", kind, KINDS[:3])
    files = files_at(source)
    format_ = _format_of(files)
    base = BackboneConfig(_backbone_config(backbone, format_.backbone_named(files)))
    foreign, weights = _read(format_, files, base)
    frozen = _load_backbone(backbone, format_.backbone_named(files), foreign.head.pooling, device, dtype)
    named = _labels(foreign.head, base.config, labels, saved_labels(files))
    of_kind = _kind(foreign.head, base.config, kind)
    return Adapter.create(
        {**foreign.tensors, **foreign.head.tensors},
        task=task,
        kind=of_kind,
        labels=() if of_kind == "regression" else named,
        method=foreign.method,
        backbone=frozen,
        metric=default_metric(of_kind),
        score=0.0,
        recipe={} if max_length is None else {"max_length": max_length},
        prediction_head=head_layers(foreign.head.layers),
        source={
            "format": format_.FORMAT,
            "name": files.name,
            "revision": files.revision,
            "sha256": files.sha256(weights),
        },
    )


def _format_of(files: Files) -> Any:
    """The module that reads these files."""
    if peft.is_peft(files):
        return peft
    if adapterhub.is_adapterhub(files):
        return adapterhub
    raise AdapterError(
        f"{files.folder} does not hold an adapter of peft or adapter-hub: it has no adapter_config.json of theirs. "
        "To add a file of Polytask to a store: Store(…).put(Adapter.load(file))"
    )


def _read(format_: Any, files: Files, base: BackboneConfig) -> tuple[ForeignAdapter, str]:
    """Read the files; any malformed content raises a one-line error."""
    try:
        found: tuple[ForeignAdapter, str] = format_.read(files, base)
    except PolytaskError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, ArithmeticError, re.error) as error:
        raise AdapterError(f"{files.folder} has settings or tensors that do not match: {error}") from error
    return found


def _backbone_config(backbone: Backbone | str | Path | None, named: str | None) -> Any:
    if isinstance(backbone, Backbone):
        return backbone.config
    return config_named(_backbone_name(backbone, named))


def _backbone_name(backbone: str | Path | None, named: str | None) -> str:
    if backbone is None and named is None:
        raise BackboneError("the files do not name their backbone: give it with --backbone (backbone= in Python)")
    return str(backbone or named)


def _load_backbone(
    backbone: Backbone | str | Path | None, named: str | None, pooling: Pooling, device: str, dtype: str
) -> Backbone:
    """The backbone, with the pooling of the head."""
    if isinstance(backbone, Backbone):
        if backbone.pooling != pooling:
            raise WrongBackbone(
                f"the head needs the pooling {pooling!r}, and {backbone.name!r} was loaded with "
                f"{backbone.pooling!r}. Use load_backbone({backbone.name!r}, pooling={pooling!r})"
            )
        return backbone
    name = _backbone_name(backbone, named)
    try:
        return load_backbone(name, pooling=pooling, device=device, dtype=dtype)
    except BackboneError as error:
        if "no pretrained pooler" not in str(error):
            raise
        raise BackboneError(
            f"the head needs the pooler, and {name} has no pretrained one: it was initialized at random for the "
            "training, and is not in the files. Save it with the adapter "
            "(peft: modules_to_save=['classifier', 'pooler'])"
        ) from None


def _kind(head: ForeignHead, config: Any, given: Kind | None) -> Kind:
    problems: dict[object, Kind] = {"multi_label_classification": "multilabel", "regression": "regression"}
    kind = given or head.kind or problems.get(getattr(config, "problem_type", None))
    kind = kind or ("regression" if head.num_outputs == 1 else "classification")
    if kind == "regression" and head.num_outputs != 1:
        raise AdapterError(f"the head has {head.num_outputs} outputs; regression needs one")
    return kind


def _labels(head: ForeignHead, config: Any, given: Sequence[str] | None, saved: tuple[str, ...]) -> tuple[str, ...]:
    if given is not None:
        if len(given) != head.num_outputs:
            raise AdapterError(f"{len(given)} labels are given, and the head has {head.num_outputs} outputs")
        return tuple(given)
    of_config = tuple(str(name) for _, name in sorted((getattr(config, "id2label", None) or {}).items()))
    for named in (head.labels, saved, of_config):
        if named and len(named) == head.num_outputs and len(set(named)) == len(named):
            return named
    return tuple(f"{UNNAMED}{index}" for index in range(head.num_outputs))
