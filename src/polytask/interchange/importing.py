"""Importing an adapter that another library saved."""

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
from polytask.interchange.foreign import Base, Foreign, ForeignHead
from polytask.interchange.head_layers import head_layers

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
    """An adapter that peft or adapter-hub's ``adapters`` saved, with its head, as one of ours.

    Args:
        source: a folder, or ``OWNER/NAME`` or ``OWNER/NAME@revision`` on the hub.
        task: the name of the task.
        backbone: what it was trained on; by default what its files name.
        labels: names of the labels in the order of the head's outputs; by default those that the files or the
            backbone's configuration name, else ``LABEL_0`` and so on.
        kind: ``classification``, ``multilabel`` or ``regression``; by default what the files say, else by the number of
            outputs: one is a regression, more are a classification.
        max_length: tokens of a text; by default as many as the backbone takes.
        device: where the backbone is loaded.
        dtype: of the backbone's weights.

    Returns:
        An adapter ready for a store. It has no score, because nothing here has seen it answer: its header says 0.

    Raises:
        AdapterError: the files are of a kind that has no counterpart here, with the reason.
        BackboneError: the backbone cannot be loaded, or pools otherwise than the file's head.
    """
    plain_name(task)
    if kind is not None and kind not in KINDS[:3]:
        raise UnknownName("kind of an imported task", kind, KINDS[:3])
    files = files_at(source)
    format_ = _format_of(files)
    base = Base(_config_of(backbone, format_.backbone_named(files)))
    foreign, weights = _read(format_, files, base)
    frozen = _loaded(backbone, format_.backbone_named(files), foreign.head.pooling, device, dtype)
    named, of_kind = _labels(foreign.head, base.config, labels), _kind(foreign.head, base.config, kind)
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
        f"{files.folder} holds no adapter of peft or adapter-hub: there is no adapter_config.json of theirs. "
        "One of Polytask's is put into a store as it is: Store(…).put(Adapter.load(file))"
    )


def _read(format_: Any, files: Files, base: Base) -> tuple[Foreign, str]:
    """What the files hold; whatever a stranger wrote into them is one clear error."""
    try:
        found: tuple[Foreign, str] = format_.read(files, base)
    except PolytaskError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, ArithmeticError, re.error) as error:
        raise AdapterError(f"{files.folder} holds settings or tensors that do not fit together: {error}") from error
    return found


def _config_of(backbone: Backbone | str | Path | None, named: str | None) -> Any:
    if isinstance(backbone, Backbone):
        return backbone.config
    return config_named(_name(backbone, named))


def _name(backbone: str | Path | None, named: str | None) -> str:
    if backbone is None and named is None:
        raise BackboneError("the files do not name the backbone that they belong to: give it with backbone=")
    return str(backbone or named)


def _loaded(
    backbone: Backbone | str | Path | None, named: str | None, pooling: Pooling, device: str, dtype: str
) -> Backbone:
    """The backbone, pooling as the head does."""
    if isinstance(backbone, Backbone):
        if backbone.pooling != pooling:
            raise WrongBackbone(
                f"the head reads a text by pooling {pooling!r}, and {backbone.name!r} was loaded with "
                f"{backbone.pooling!r}: load_backbone({backbone.name!r}, pooling={pooling!r})"
            )
        return backbone
    name = _name(backbone, named)
    try:
        return load_backbone(name, pooling=pooling, device=device, dtype=dtype)
    except BackboneError as error:
        if "no pretrained pooler" not in str(error):
            raise
        raise BackboneError(
            f"the head reads the pooler, and {name} has none: it was random when the head was trained, and is not "
            "among the files. Only what was saved can be imported (peft: modules_to_save=['classifier', 'pooler'])"
        ) from None


def _kind(head: ForeignHead, config: Any, given: Kind | None) -> Kind:
    problems: dict[object, Kind] = {"multi_label_classification": "multilabel", "regression": "regression"}
    kind = given or head.kind or problems.get(getattr(config, "problem_type", None))
    kind = kind or ("regression" if head.num_outputs == 1 else "classification")
    if kind == "regression" and head.num_outputs != 1:
        raise AdapterError(f"the head has {head.num_outputs} outputs: a regression has one")
    return kind


def _labels(head: ForeignHead, config: Any, given: Sequence[str] | None) -> tuple[str, ...]:
    if given is not None:
        if len(given) != head.num_outputs:
            raise AdapterError(f"{len(given)} labels are named, and the head has {head.num_outputs} outputs")
        return tuple(given)
    of_config = tuple(str(name) for _, name in sorted((getattr(config, "id2label", None) or {}).items()))
    for named in (head.labels, of_config):
        if named and len(named) == head.num_outputs and len(set(named)) == len(named):
            return named
    return tuple(f"{UNNAMED}{index}" for index in range(head.num_outputs))
