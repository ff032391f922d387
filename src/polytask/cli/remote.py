"""``polytask predict --url``: a server answers, in place of a store on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence

from polytask.cli import console
from polytask.cli.options import working
from polytask.cli.top_k import check_top_k
from polytask.errors import DataError, PolytaskError

VARIABLE = "POLYTASK_KEY"


def predict_at(
    url: str,
    texts: Sequence[str] | None,
    tasks: Sequence[str] | None,
    pairs: Sequence[str] | None,
    about_a_file: Sequence[str | None],
    *,
    as_json: bool,
    top_k: int | None = None,
) -> None:
    """Answer the texts of the command line and print the answers as ``polytask predict`` does.

    Raises:
        PolytaskError: nothing is asked, or the server does not answer.
    """
    from polytask.cli.answers import emit_answers, rows_given, show_answers, texts_of
    from polytask.inference.inputs import check_texts
    from polytask.serving.client import Client

    check_top_k(top_k, None, {})
    if any(about_a_file):
        raise DataError("a file is answered by a store on this machine", fix="Leave out --url, or give texts")
    if not tasks:
        raise PolytaskError("no task is named. Name one with --task")
    rows = rows_given(texts, pairs, [], "fail")
    check_texts(texts_of(rows))
    with Client(url, key=os.environ.get(VARIABLE)) as client, working(f"asking {url}"):
        answers = {task: client.predict(texts_of(rows), task) for task in dict.fromkeys(tasks)}
    if as_json:
        emit_answers(answers, len(rows), top_k)
    else:
        show_answers(console.terminal(), rows, answers, top_k)
