"""Imports point one way, and importing Polytask costs nothing: read off the syntax trees and off fresh interpreters."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import polytask

PACKAGE = Path(polytask.__file__).parent
FILES = [PACKAGE / "__init__.py", *sorted(PACKAGE.rglob("?*/*.py")), *sorted(PACKAGE.glob("[!_]*.py"))]

# Each may import those to its left, and itself, and nothing to its right. ``base`` is the modules at the top.
ORDER = (
    "base methods architectures routing backbones data suites evaluation adapters inference training drawing "
    "sklearn interchange launch serving paper reporting bench demo cli"
).split()

# The places each of these is imported in.
ONLY_IN = {
    "onnxruntime": "interchange",
    "ray": "launch serving",
    "fastapi": "serving",
    "uvicorn": "serving",
    "matplotlib": "drawing reporting",
    "typer": "cli",
    "onnx": "interchange",
}

HEAVY = ("torch", "transformers", "sklearn", "scipy", "numpy", "pandas", "datasets", "pyarrow")


def part_of(file: Path) -> str:
    """``methods`` for ``polytask/methods/lora.py``, ``base`` for ``polytask/files.py``."""
    return package_of(file.relative_to(PACKAGE).with_suffix("").parts[0])


def package_of(name: str) -> str:
    """The name itself where it is that of a package, ``base`` for a module at the top that all may use."""
    return "base" if (PACKAGE / f"{name}.py").exists() else name


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Every module that the file names in an import, wherever in the file, with its line."""
    package = ["polytask", *file.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            names = [alias.name for alias in node.names]
            yield from (
                ((node.lineno, f"{module}.{name}") for name in names)
                if module == "polytask"
                else [(node.lineno, module)]
            )


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return done.stdout.strip()


@pytest.mark.parametrize("file", FILES[1:], ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_to_the_left_only(file: Path) -> None:
    own = part_of(file)
    assert own in ORDER, f"give {own!r} a place in the order of imports"
    wrong = []
    for line, module in imported(file):
        root, _, rest = module.partition(".")
        part = package_of(rest.partition(".")[0])
        if root == "polytask" and part != "__version__" and part not in ORDER[: ORDER.index(own) + 1]:
            wrong.append(f"{file}:{line}: polytask/{own} imports {module}, which stands to its right")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_outside_packages_are_imported_where_they_belong(file: Path) -> None:
    own = part_of(file)
    wrong = [
        f"{file}:{line}: {module} belongs in polytask/{ONLY_IN[root]}"
        for line, module in imported(file)
        if (root := module.partition(".")[0]) in ONLY_IN and own not in ONLY_IN[root].split()
    ]
    wrong += [
        f"{file}:{line}: the methods know torch only, not {module}"
        for line, module in imported(file)
        if own == "methods" and module.partition(".")[0] in ("transformers", "datasets", "sklearn")
    ]
    assert not wrong, "\n".join(wrong)


def test_serving_does_not_import_training() -> None:
    wrong = [
        f"{file}:{line}"
        for file in FILES
        if part_of(file) == "serving"
        for line, module in imported(file)
        if module.startswith("polytask.training")
    ]
    assert not wrong, wrong


def test_importing_polytask_imports_nothing_heavy() -> None:
    assert run(f"import sys, polytask; print([name for name in {HEAVY} if name in sys.modules])") == "[]"


def test_showing_the_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from polytask.cli import main\n"
        "sys.argv = ['polytask', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert run(code).splitlines()[-1] == "[]"


def test_every_public_name_is_what_its_module_holds() -> None:
    for name, module in polytask._MODULE_OF.items():
        assert getattr(polytask, name) is getattr(sys.modules[module], name)


def test_type_checkers_see_the_names_that_programs_see() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert {alias.asname: node.module for node in imports for alias in node.names} == polytask._MODULE_OF


def test_train_and_attach_are_functions_whatever_was_imported_before() -> None:
    modules = "polytask.training.loop, polytask.adapters.attach"
    code = f"import polytask as pt, {modules}; print(callable(pt.train), callable(pt.attach))"
    assert run(code) == "True True"


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'hulsby'"):
        polytask.hulsby  # noqa: B018
