"""Converted checkpoints give the same numbers, are written atomically, and run no code."""

from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from polytask.backbones.convert import convert
from polytask.backbones.loading import load_backbone
from polytask.errors import BackboneError, WriteError
from tests.cli.test_cli import refused, succeeded
from tests.tiny import VOCABULARY

IDS = torch.tensor([[2, 9, 12, 3], [2, 7, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


def hidden(folder: Path) -> torch.Tensor:
    backbone = load_backbone(folder, device="cpu", dtype="float32")
    with torch.no_grad():
        return backbone.encoder(IDS, MASK, None)[0]


@pytest.fixture
def pickled(tiny_bert_folder: Path, tmp_path: Path) -> Path:
    """A checkpoint with ``pytorch_model.bin`` alone."""
    folder = Path(shutil.copytree(tiny_bert_folder, tmp_path / "pickled"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_a_pickled_checkpoint_becomes_a_backbone_with_the_same_numbers(
    pickled: Path, tiny_bert_folder: Path, tmp_path: Path
) -> None:
    refusal = refused("inspect", tmp_path / "nothing-here")
    assert "there is no folder" in refusal
    with pytest.raises(BackboneError, match=f"polytask convert {pickled} OUT"):
        load_backbone(pickled)
    assert "wrote" in succeeded("convert", pickled, tmp_path / "out")
    assert not (tmp_path / "out" / "pytorch_model.bin").exists()
    torch.testing.assert_close(hidden(tmp_path / "out"), hidden(tiny_bert_folder), rtol=0, atol=0)


def test_weights_in_several_files_are_merged(pickled: Path, tiny_bert_folder: Path, tmp_path: Path) -> None:
    state = torch.load(pickled / "pytorch_model.bin", weights_only=True)
    (pickled / "pytorch_model.bin").unlink()
    names = sorted(state)
    parts = {"part-1.bin": names[::2], "part-2.bin": names[1::2]}
    for file, own in parts.items():
        torch.save({name: state[name] for name in own}, pickled / file)
    index = {"weight_map": {name: file for file, own in parts.items() for name in own}}
    (pickled / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    convert(pickled, tmp_path / "out")
    torch.testing.assert_close(hidden(tmp_path / "out"), hidden(tiny_bert_folder), rtol=0, atol=0)
    (pickled / "part-2.bin").unlink()
    with pytest.raises(BackboneError, match=r"lacks part-2\.bin, a part of its weights"):
        convert(pickled, tmp_path / "again")


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


def test_a_pickle_with_code_is_not_run_and_nothing_is_written(
    pickled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (pickled / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(BackboneError, match="holds more than tensors, or is damaged"):
        convert(pickled, tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pickled"]


def test_a_folder_with_something_in_it_is_left_alone(pickled: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(WriteError, match="not empty"):
        convert(pickled, tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "x"


def test_an_old_sentence_transformers_folder_keeps_its_pooling(tiny_bert_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sentences"
    shutil.copytree(tiny_bert_folder, folder / "0_Transformer")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    modules = [{"path": "0_Transformer", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    convert(folder, tmp_path / "out")
    backbone = load_backbone(tmp_path / "out", device="cpu", dtype="float32")
    assert backbone.pooling == "mean"
    torch.testing.assert_close(hidden(tmp_path / "out"), hidden(tiny_bert_folder), rtol=0, atol=0)


def test_a_tokenizer_with_only_a_vocabulary_is_converted_to_a_fast_one(pickled: Path, tmp_path: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (pickled / file).unlink()
    (pickled / "vocab.txt").write_text("\n".join(VOCABULARY))
    convert(pickled, tmp_path / "out")
    backbone = load_backbone(tmp_path / "out", device="cpu", dtype="float32")
    assert backbone.tokenizer("good film")["input_ids"] == [2, VOCABULARY["good"], VOCABULARY["film"], 3]


@pytest.mark.skipif(importlib.util.find_spec("gguf") is not None, reason="what reads GGUF is installed")
def test_gguf_without_its_package_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert "pip install 'polytask[gguf]'" in refused("convert", tmp_path / "model.gguf", tmp_path / "out")


def test_a_checkpoint_without_weights_is_refused(pickled: Path, tmp_path: Path) -> None:
    (pickled / "pytorch_model.bin").unlink()
    with pytest.raises(BackboneError, match=r"has no weights: none of model.safetensors, pytorch_model.bin"):
        convert(pickled, tmp_path / "out")
    (pickled / "config.json").unlink()
    with pytest.raises(BackboneError, match=r"has no config\.json"):
        convert(pickled, tmp_path / "out")


def gguf_of(file: Path, hidden: int = 32, heads: int = 4, middle: int = 48, layers: int = 2) -> dict[str, Any]:
    """A random Llama in GGUF, and its tensors."""
    gguf = pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    words = ["<unk>", "<s>", "</s>", "▁", *"abcdefghijklmnopqrstuvwxyz", *(f"▁{letter}" for letter in "abcdefgh")]
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(middle)
    writer.add_head_count(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([-float(number) for number in range(len(words))])
    writer.add_token_types([2, 3, 3, *[1] * (len(words) - 3)])
    square, wide = (hidden, hidden), (middle, hidden)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (len(words), hidden), "output_norm": (hidden,)}
    for layer in range(layers):
        own = {"attn_norm": (hidden,), "ffn_norm": (hidden,), "ffn_gate": wide, "ffn_up": wide, "ffn_down": wide[::-1]}
        own |= dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), square)
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in own.items()}
    tensors = {f"{name}.weight": torch.randn(shape).mul(0.1).numpy() for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def test_a_converted_gguf_file_has_the_same_numbers(tmp_path: Path) -> None:
    tensors = gguf_of(tmp_path / "tiny.gguf")
    backbone = load_backbone(convert(tmp_path / "tiny.gguf", tmp_path / "out"), device="cpu", dtype="float32")
    assert (backbone.architecture, backbone.pooling) == ("llama", "last")
    up = backbone.model.get_submodule("layers.1.mlp.up_proj").weight
    assert torch.equal(up, torch.from_numpy(tensors["blk.1.ffn_up.weight"]))  # type: ignore[arg-type]
