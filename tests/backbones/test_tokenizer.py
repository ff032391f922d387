"""Tokenizers of folders as people have them: only a vocabulary, or only a sentencepiece file."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import pytest

from polytask.backbones.convert import convert
from polytask.backbones.loading import load_backbone
from polytask.errors import BackboneError
from tests.cli.test_cli import refused
from tests.tiny import VOCABULARY, WORDS, save_tiny

CAN_READ = importlib.util.find_spec("sentencepiece") is not None
needs_sentencepiece = pytest.mark.skipif(not CAN_READ, reason="sentencepiece is not installed")
TEXTS = ["good film", "the plot was awful", "zebra"]
ALBERT_IDS = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("spiece.model", {"user_defined_symbols": ["[CLS]", "[SEP]", "[MASK]"], **ALBERT_IDS}),
    "deberta-v2": ("spm.model", {"control_symbols": ["[PAD]", "[CLS]", "[SEP]"], "pad_id": -1}),
    "xlm-roberta": ("sentencepiece.bpe.model", {}),
    "llama": ("tokenizer.model", {"model_type": "bpe"}),
}
"""The sentencepiece file of an architecture, and how its model is trained."""


def without_tokenizer(folder: Path, architecture: str) -> Path:
    """A tiny backbone's folder without any file of a tokenizer."""
    save_tiny(folder, architecture, vocab_size=200)
    for file in folder.glob("*token*"):
        file.unlink()
    return folder


def sentencepiece_folder(folder: Path, architecture: str) -> tuple[Path, Any]:
    """A tiny backbone's folder with a sentencepiece file alone, and the processor of that file."""
    import sentencepiece

    name, settings = KINDS[architecture]
    model = io.BytesIO()
    sentences = (" ".join(WORDS[at:] + WORDS[:at]) for at in range(len(WORDS)))
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences,
        model_writer=model,
        vocab_size=100,
        minloglevel=2,
        hard_vocab_limit=False,
        **settings,
    )
    without_tokenizer(folder, architecture)
    (folder / name).write_bytes(model.getvalue())
    if architecture == "llama":  # nothing else says that a text begins with a space
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    return folder, sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@needs_sentencepiece
@pytest.mark.parametrize("architecture", KINDS)
def test_a_sentencepiece_file_alone_gives_the_pieces_of_sentencepiece(architecture: str, tmp_path: Path) -> None:
    folder, processor = sentencepiece_folder(tmp_path / "slow", architecture)
    backbone = load_backbone(folder, device="cpu", dtype="float32")
    for text in TEXTS[:2]:
        tokens = backbone.tokenizer(text, add_special_tokens=False).tokens()
        assert tokens == processor.encode(text, out_type=str)
    converted = load_backbone(convert(folder, tmp_path / "out"), device="cpu", dtype="float32")
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert converted.tokenizer(TEXTS)["input_ids"] == backbone.tokenizer(TEXTS)["input_ids"]
    assert converted.tokenizer_fingerprint == backbone.tokenizer_fingerprint


@needs_sentencepiece
def test_a_sentencepiece_file_whose_class_is_not_said_is_refused(tmp_path: Path) -> None:
    folder, _ = sentencepiece_folder(tmp_path / "slow", "llama")
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(BackboneError, match=r"does not say of which class its tokenizer is: .* tokenizer_class"):
        load_backbone(folder)


@needs_sentencepiece
def test_a_damaged_sentencepiece_file_is_named(tmp_path: Path) -> None:
    folder = without_tokenizer(tmp_path / "slow", "albert")
    (folder / "spiece.model").write_bytes(b"no model")
    with pytest.raises(BackboneError, match=r"spiece\.model of .* cannot be read as a sentencepiece file"):
        load_backbone(folder)


@pytest.mark.skipif(CAN_READ, reason="what reads sentencepiece files is installed")
@pytest.mark.parametrize("architecture", KINDS)
def test_without_its_package_a_sentencepiece_file_is_refused_with_the_extra(architecture: str, tmp_path: Path) -> None:
    folder = without_tokenizer(tmp_path / "slow", architecture)
    (folder / KINDS[architecture][0]).write_bytes(b"no model")
    with pytest.raises(BackboneError, match=r"pip install 'polytask\[sentencepiece\]'"):
        load_backbone(folder)
    said = refused("convert", folder, tmp_path / "out")
    assert f"in a sentencepiece file, {KINDS[architecture][0]}, which needs a package that is not installed" in said


@pytest.mark.parametrize("architecture", ["bert", "electra", "distilbert"])
def test_a_vocabulary_alone_is_read(architecture: str, tmp_path: Path) -> None:
    folder = without_tokenizer(tmp_path / "slow", architecture)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    backbone = load_backbone(folder, device="cpu", dtype="float32")
    words = [VOCABULARY[word] for word in ("[CLS]", "good", "film", "[SEP]")]
    assert backbone.tokenizer("good film")["input_ids"] == words
    converted = load_backbone(convert(folder, tmp_path / "out"), device="cpu", dtype="float32")
    assert converted.tokenizer_fingerprint == backbone.tokenizer_fingerprint
