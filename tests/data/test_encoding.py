"""Texts as token ids."""

from __future__ import annotations

import pytest
from tokenizers import normalizers, processors

from polytask.data.encoding import encode
from polytask.data.task import Rows
from polytask.errors import DataError
from tests.tiny import tiny_tokenizer


@pytest.mark.parametrize("long", ["truncate", "split"])
def test_a_text_of_which_a_tokenizer_leaves_no_token_is_refused(long: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(clean_text=True)
    rows = Rows(["good film", "\u200b"])
    assert encode(tokenizer, rows, 16, long).lengths == [4, 2]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    with pytest.raises(DataError, match=r"text 2 of 2 has no tokens, .* drops all of '\\u200b'\. Fill it in"):
        encode(tokenizer, rows, 16, long)
