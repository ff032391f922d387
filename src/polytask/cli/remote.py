"""``polytask predict --url``: a server answers instead of a store on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence

from polytask.cli import console
from polytask.cli.options import spinner
from polytask.errors import DataError, PolytaskError

VARIABLE = "POLYTASK_KEY"


def predict_at(
    url: str,
    texts: Sequence[str] | None,
    tasks: Sequence[str] | None,
    pairs: Sequence[str] | None,
    file_options: Sequence[str | None],
    *,
    as_json: bool,
) -> None:
    """Ask a server about the texts of the command line and print the answers as ``polytask predict`` does.

    Raises:
        PolytaskError: there is no task or text, or the server does not answer.
    """
    from polytask.cli.answers import print_answers_json, rows_from_arguments, show_answers, texts_of
    from polytask.inference.inputs import check_texts
    from polytask.serving.client import Client

    if any(file_options):
        raise DataError("--url takes texts, not a file", fix="Leave out --url, or give texts")
    if not tasks:
        raise PolytaskError("no task is named. Name one with --task")
    rows = rows_from_arguments(texts, pairs, [], "fail")
    check_texts(texts_of(rows))
    with Client(url, key=os.environ.get(VARIABLE)) as client, spinner(f"asking {url}"):
        answers = {task: client.predict(texts_of(rows), task) for task in dict.fromkeys(tasks)}
    if as_json:
        print_answers_json(answers, len(rows))
    else:
        show_answers(console.terminal(), rows, answers)
