"""What the README shows runs as it is printed there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
SPAM = ["WIN cash now, claim your prize", "free entry, text WIN to claim", "you won a free holiday, call now"]
HAM = ["see you at five", "can you call me after lunch", "happy birthday, have a lovely day"]


def blocks() -> list[str]:
    """The README's Python blocks."""
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def in_a_folder_with_spam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        f'"{text} {n}",{label}\n' for n in range(4) for label, texts in (("spam", SPAM), ("ham", HAM)) for text in texts
    ]
    (tmp_path / "spam.csv").write_text("text,label\n" + "".join(rows))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("minilm", "in_a_folder_with_spam")
def test_the_python_of_the_readme_runs(tiny_bert_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"folder": tiny_bert_folder}
    for block in blocks():
        exec(block, names)
    assert [answer.label for answer in names["answers"]] == ["spam", "ham"]  # type: ignore[attr-defined]
    assert set(names["outcomes"]) == {"lr0.0003", "lr0.001"}  # type: ignore[call-overload]
    assert "spam" in capsys.readouterr().out


def test_the_layout_names_every_module() -> None:
    text = README.read_text(encoding="utf-8")
    package = README.parent / "src" / "polytask"
    shown = set(re.findall(r"^  (\w+(?:\.py|/))", text, flags=re.MULTILINE))
    there = {path.name if path.is_file() else f"{path.name}/" for path in package.iterdir()}
    assert shown == {name for name in there if name.endswith((".py", "/")) and not name.startswith("__")}


def test_the_order_of_imports_is_written_down_as_it_is_held() -> None:
    from tests.test_imports import ORDER

    for document in ("CONTRIBUTING.md", "docs/design.md"):
        text = " ".join((README.parent / document).read_text(encoding="utf-8").split())
        assert " ← ".join(ORDER) in text, document
