"""Loading backbones: refusals, fingerprints, pooling."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from polytask.backbones import hub
from polytask.backbones.backbone import Backbone
from polytask.backbones.loading import empty_model, load_backbone
from polytask.errors import BackboneError, UnknownName, UnsupportedArchitecture
from tests.tiny import ARCHITECTURES, save_tiny, tiny_config

POOLING = {
    **dict.fromkeys(("bert", "ernie", "albert"), "pooler"),
    **dict.fromkeys(("modernbert-decoder", "llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma3_text"), "last"),
    **dict.fromkeys(("nomic_bert", "jina_embeddings_v3"), "mean"),
    "eurobert": "late",
}


def load(folder: Path, **options: str) -> Backbone:
    return load_backbone(folder, device="cpu", dtype="float32", **options)  # type: ignore[arg-type]


@pytest.fixture
def copied(tiny_bert_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bert_folder, tmp_path / "copy"))


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_supported_architecture_loads_frozen(architecture: str, folder_of: Callable[[str], Path]) -> None:
    backbone = load(folder_of(architecture))
    assert (backbone.architecture, backbone.hidden, backbone.num_layers) == (architecture, 32, 2)
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert not any(module.training for module in backbone.model.modules())
    assert backbone.pooling == POOLING.get(architecture, "cls")


def test_loading_twice_gives_the_same_bits_and_fingerprints(folder_of: Callable[[str], Path]) -> None:
    for architecture in ARCHITECTURES:
        first, second = load(folder_of(architecture)), load(folder_of(architecture))
        assert first.fingerprint == second.fingerprint
        assert first.tokenizer_fingerprint == second.tokenizer_fingerprint
        states = first.model.state_dict(), second.model.state_dict()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_an_unknown_architecture_is_refused_with_the_supported_ones(copied: Path) -> None:
    edit_config(copied, model_type="modernbart")
    with pytest.raises(UnsupportedArchitecture, match=r"'modernbart' is not supported. Supported are: bert, roberta"):
        load(copied)


def test_code_from_a_checkpoint_is_never_run(copied: Path) -> None:
    (copied / "evil.py").write_text("raise SystemExit('ran')")
    edit_config(copied, model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"})
    with pytest.raises(UnsupportedArchitecture):
        load(copied)
    edit_config(copied, model_type="bert")
    assert load(copied).architecture == "bert"


def test_weights_that_are_not_safetensors_are_refused(copied: Path) -> None:
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match=r"no model.safetensors.*polytask convert .* OUT"):
        load(copied)


def test_a_checkpoint_that_lacks_tensors_is_refused(copied: Path) -> None:
    def with_a_hole(weights: dict[str, torch.Tensor]) -> None:
        del weights["encoder.layer.1.output.dense.weight"]

    edit_weights(copied, with_a_hole)
    with pytest.raises(BackboneError, match=r"lacks tensors .*encoder.layer.1.output.dense.weight"):
        load(copied)


def test_a_pooler_that_was_not_pretrained_is_left_out(copied: Path) -> None:
    def without_pooler(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if name.startswith("pooler")]:
            del weights[name]

    edit_weights(copied, without_pooler)
    backbone = load(copied)
    assert backbone.pooling == "cls"
    assert not [name for name in backbone.model.state_dict() if "pooler" in name]
    with pytest.raises(BackboneError, match="no pretrained pooler"):
        load(copied, pooling="pooler")


def test_the_pooling_of_sentence_transformers_is_used(copied: Path) -> None:
    modules = [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}]
    (copied / "modules.json").write_text(json.dumps(modules))
    (copied / "1_Pooling").mkdir()
    (copied / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    assert load(copied).pooling == "mean"
    (copied / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))
    with pytest.raises(BackboneError, match="Choose pooling"):
        load(copied)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/folder", "there is no folder"),
        ("./nowhere", "there is no folder"),
        ("~/nowhere/at/all", "there is no"),
    ],
)
def test_a_folder_that_does_not_exist_is_refused(name: str, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        load_backbone(name)


def test_folders_without_config_and_unknown_options_are_refused(tmp_path: Path, tiny_bert_folder: Path) -> None:
    with pytest.raises(BackboneError, match=r"config.json"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(BackboneError, match="not a JSON file"):
        load(tmp_path)
    with pytest.raises(UnknownName, match="Did you mean 'bfloat16'"):
        load_backbone(tiny_bert_folder, device="cpu", dtype="bfloat61")
    with pytest.raises(BackboneError, match="device 'gpu'"):
        load_backbone(tiny_bert_folder, device="gpu")
    with pytest.raises(UnknownName, match="pooling"):
        load(tiny_bert_folder, pooling="max")


def test_a_changed_weight_or_field_is_another_backbone(copied: Path) -> None:
    before = load(copied)

    def one_bit(weights: dict[str, torch.Tensor]) -> None:
        weights["embeddings.word_embeddings.weight"].view(torch.int32)[3, 3] ^= 1

    edit_weights(copied, one_bit)
    changed = load(copied)
    assert changed.fingerprint != before.fingerprint
    edit_config(copied, layer_norm_eps=1e-6)
    assert load(copied).fingerprint != changed.fingerprint
    edit_config(copied, layer_norm_eps=1e-12, hidden_dropout_prob=0.3)
    assert load(copied).fingerprint == changed.fingerprint
    assert load(copied).tokenizer_fingerprint == before.tokenizer_fingerprint


def test_using_a_tokenizer_does_not_change_its_fingerprint_and_another_vocabulary_does(copied: Path) -> None:
    from polytask.backbones.fingerprint import tokenizer_fingerprint

    backbone = load(copied)
    backbone.tokenizer(["a", "good film"], padding="max_length", truncation=True, max_length=7)
    assert tokenizer_fingerprint(backbone.tokenizer) == backbone.tokenizer_fingerprint
    content = json.loads((copied / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["good"], vocabulary["bad"] = vocabulary["bad"], vocabulary["good"]
    (copied / "tokenizer.json").write_text(json.dumps(content))
    assert load(copied).tokenizer_fingerprint != backbone.tokenizer_fingerprint


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_config_alone_gives_the_shape_of_a_model(architecture: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "full", architecture)
    model, _ = empty_model(tiny_config(architecture))
    loaded = load(folder)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    shapes = {name: p.shape for name, p in model.named_parameters() if "pooler" not in name}
    assert shapes == {name: p.shape for name, p in loaded.model.named_parameters() if "pooler" not in name}


def test_the_real_minilm_pools_by_the_mean_and_has_no_pooler(minilm: Backbone) -> None:
    assert (minilm.pooling, minilm.hidden, minilm.num_layers, minilm.max_length) == ("mean", 384, 6, 512)
    assert minilm.num_parameters == 22_565_376
    lengths = [len(ids) for ids in minilm.tokenizer(["a", "b " * 200], truncation=False)["input_ids"]]
    assert lengths == [3, 202]


def test_without_a_network_a_hub_id_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tried: list[object] = []

    def no_network(address: tuple[str, int], **_: object) -> None:
        tried.append(address)
        raise OSError

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub.socket, "create_connection", no_network)
    with pytest.raises(BackboneError, match=r"nobody/nothing.*HF_HUB_OFFLINE is set or https?://.* cannot be reached"):
        load_backbone("nobody/nothing")
    assert len(tried) == 1
    assert constants.HF_HUB_OFFLINE is False
