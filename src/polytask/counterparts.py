"""Maps names of other libraries to ours, so that error messages can suggest the right one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from polytask.errors import RecipeError, nearest

K = TypeVar("K", bound=type)

SETTINGS = {
    **dict.fromkeys(("r", "lora_rank", "lora_r"), "rank"),
    **dict.fromkeys(("lora_alpha", "scaling"), "alpha"),
    **dict.fromkeys(("lora_dropout",), "dropout"),
    **dict.fromkeys(("target_modules", "modules", "linear"), "linears"),
    **dict.fromkeys(("layers_to_transform", "leave_out", "num_layers"), "layers"),
    **dict.fromkeys(("reduction_factor", "bottleneck_size", "bottleneck", "hidden_size", "dim"), "size"),
    **dict.fromkeys(("non_linearity", "nonlinearity", "act"), "activation"),
    **dict.fromkeys(("learning_rate", "learning_rate_init", "eta"), "lr"),
    **dict.fromkeys(("num_train_epochs", "num_epochs", "n_epochs", "max_iter"), "epochs"),
    **dict.fromkeys(("per_device_train_batch_size", "train_batch_size", "bs"), "batch_size"),
    **dict.fromkeys(("max_seq_length", "max_len", "max_tokens"), "max_length"),
    **dict.fromkeys(("warmup_ratio", "warmup_share"), "warmup"),
    **dict.fromkeys(("max_grad_norm", "clipping"), "clip"),
    **dict.fromkeys(("adam_epsilon", "eps"), "epsilon"),
    **dict.fromkeys(("early_stopping_patience", "early_stopping"), "patience"),
    **dict.fromkeys(("random_state", "random_seed"), "seed"),
    **dict.fromkeys(("class_weight",), "class_weights"),
    **dict.fromkeys(("ema_decay", "swa", "averaging"), "ema"),
    **dict.fromkeys(("r_drop", "kl_weight"), "rdrop"),
    **dict.fromkeys(("num_experts", "num_expert"), "num_modules"),
    **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout"), "backbone_dropout"),
    **dict.fromkeys(("peft_config", "adapter_config"), "method"),
}
"""Settings of peft, adapter-hub, transformers and scikit-learn, and their names in a method or a recipe."""

_STORE = 'pt.Store("adapters").get("spam"), or pt.Adapter.load(file)'
_ATTACH = "pt.attach(model, pt.LoRA(rank=8)); a backbone of load_backbone is trained with pt.train(backbone, task)"
_PREDICT = 'pt.MultiTask(backbone, store).predict(texts, "spam")'
_READ = 'pt.read_task(data, "spam")'
_SKLEARN = "from polytask.sklearn import AdapterClassifier, AdapterRegressor"

NAMES = {
    **dict.fromkeys(("load_adapter", "load", "PeftModel"), _STORE),
    **dict.fromkeys(("save_adapter", "save_pretrained", "save"), "store.put(adapter), or adapter.save(file)"),
    **dict.fromkeys(("get_peft_model", "add_adapter", "inject_adapter", "prepare_model"), _ATTACH),
    **dict.fromkeys(("from_pretrained", "load_model", "AutoModel", "AutoBackbone"), 'pt.load_backbone("minilm")'),
    **dict.fromkeys(("load_dataset", "load_task", "load_data", "Dataset", "read_csv"), _READ),
    **dict.fromkeys(("predict", "pipeline"), _PREDICT),
    **dict.fromkeys(
        ("fit", "Trainer", "TrainingArguments", "finetune"), "pt.train(backbone, task, pt.Recipe(epochs=3))"
    ),
    **dict.fromkeys(("AdapterClassifier", "AdapterRegressor", "AdapterGridSearchCV", "sklearn"), _SKLEARN),
    **dict.fromkeys(("merge", "merge_and_unload", "merge_adapter"), 'pt.export_adapter(adapter, folder, "merged")'),
    **dict.fromkeys(("LoraConfig", "LORA", "Lora", "LoRAConfig"), "pt.LoRA(rank=8)"),
    **dict.fromkeys(("IA3Config",), "pt.IA3()"),
    **dict.fromkeys(("BnConfig", "AdapterConfig", "DoubleSeqBnConfig"), "pt.Houlsby(size=64)"),
    **dict.fromkeys(("SeqBnConfig",), "pt.Pfeiffer(size=64)"),
    **dict.fromkeys(("print_trainable_parameters",), "print(pt.attach(model, pt.LoRA(rank=8)))"),
    **dict.fromkeys(("push_to_hub",), 'store.push("spam@1", "OWNER/NAME")'),
    **dict.fromkeys(("evaluate", "score", "eval"), "polytask eval test.csv --task spam on the command line"),
}
"""Names that users of other libraries look for in ``polytask``, and what to use here."""


def setting_called(name: str, known: Sequence[str]) -> str | None:
    """The known setting that ``name`` probably means; None if none is similar."""
    counterpart = SETTINGS.get(name.lower())
    return counterpart if counterpart in known else nearest(name, known)


def unknown_setting(of: str, name: str, known: Sequence[str]) -> RecipeError:
    """The error for a setting that a method or recipe does not have."""
    meant = setting_called(name, known)
    guess = "" if meant is None else f" Did you mean {meant!r}?"
    return RecipeError(f"{of} has no setting {name!r}.{guess} There are: {', '.join(known)}")


def missing_name(name: str, known: Sequence[str]) -> AttributeError:
    """The error for a public name that ``polytask`` does not have."""
    meant = NAMES.get(name)
    near = None if meant else nearest(name, known)
    guess = f". Here it is: {meant}" if meant else f". Did you mean {near!r}?" if near else ". See help(polytask)"
    return AttributeError(f"module 'polytask' has no attribute {name!r}{guess}")


def known_settings(kind: K) -> K:
    """Make a dataclass refuse unknown settings with an error that suggests the right name.

    >>> LoRA(r=8)
    Traceback (most recent call last):
    polytask.errors.RecipeError: LoRA has no setting 'r'. Did you mean 'rank'? There are: …
    """
    init: Callable[..., None] = kind.__init__  # type: ignore[misc]
    known = tuple(inspect.signature(init).parameters)[1:]

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **settings: Any) -> None:
        for name in settings:
            if name not in known:
                raise unknown_setting(kind.__name__, name, known)
        init(self, *args, **settings)

    kind.__init__ = checked  # type: ignore[misc]
    return kind
