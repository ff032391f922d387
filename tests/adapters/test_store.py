"""The store: versions, aliases, damage, and writers that fail, race or are killed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import polytask
from polytask.adapters.store import Store
from polytask.errors import AdapterError, NoSuchAdapter, StoreError
from polytask.methods import Houlsby
from tests.samples import Known, created, same, tensors_of, written

ROOT = Path(polytask.__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store, in a local folder and behind fsspec."""
    if request.param == "local":
        yield Store(tmp_path / "adapters")
        return
    import fsspec

    yield Store("memory://adapters")
    fsspec.filesystem("memory").rm("/adapters", recursive=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a local store with two versions of ``spam``."""
    store = Store(tmp_path / "adapters")
    for seed in range(2):
        store.put(created(seed=seed))
    return tmp_path / "adapters"


def contents(folder: Path) -> dict[str, bytes]:
    """The content of every file but the lock, by path."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_get_gives_what_was_put(store: Store) -> None:
    adapter = created()
    entry = store.put(adapter)
    assert str(entry) == "spam@1"
    assert same(store.get("spam"), adapter)
    assert same(store.get("spam@1"), adapter)


def test_each_put_makes_a_new_version_and_keeps_the_old_ones(store: Store) -> None:
    adapters = [created(seed=seed) for seed in range(12)]
    assert [store.put(adapter).version for adapter in adapters] == list(range(1, 13))
    assert store.versions("spam") == list(range(1, 13))
    for number, adapter in enumerate(adapters, 1):
        assert same(store.get(f"spam@{number}"), adapter)
    assert same(store.get("spam"), adapters[-1])
    assert same(store.get("spam@latest"), adapters[-1])


def test_an_entry_says_what_the_header_says(store: Store) -> None:
    adapter = created(Houlsby(size=2), score=0.5)
    store.put(adapter, alias="prod")
    (entry,) = store.list()
    assert entry == store.entry("spam@prod")
    assert (entry.task, entry.version, entry.labels, entry.aliases) == ("spam", 1, ("ham", "spam"), ("prod",))
    assert (entry.method, entry.metric, entry.score) == (Houlsby(size=2), "accuracy", 0.5)
    assert (entry.digest, entry.created) == (adapter.header.digest, adapter.header.created)
    assert entry.size_bytes == len(adapter.to_bytes())
    assert entry.path.endswith("adapters/spam/1.safetensors")


def test_tasks_have_their_own_versions(store: Store) -> None:
    store.put(created(task="b"))
    store.put(created(task="a"))
    store.put(created(task="a"))
    assert list(map(str, store.list())) == ["a@1", "a@2", "b@1"]
    assert store.tasks() == ["a", "b"]
    assert store.get("b").header.task == "b"


def test_reading_an_empty_store_creates_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "adapters")
    assert store.list() == []
    assert store.tasks() == []
    assert store.verify() == []
    assert store.gc() == []
    with pytest.raises(NoSuchAdapter, match=r"no adapter called 'spam'. There is no adapter in .*adapters yet"):
        store.get("spam")
    assert not (tmp_path / "adapters").exists()


def test_an_unknown_name_is_refused_with_the_known_ones(store: Store) -> None:
    store.put(created(), alias="prod")
    with pytest.raises(NoSuchAdapter, match=r"no adapter called 'spma'. Did you mean 'spam'\?"):
        store.get("spma")
    for name in ("spam@2", "spam@0", "spam@01", "spam@beta", "spam@99999999999"):
        with pytest.raises(NoSuchAdapter, match="There are: 1, best, latest"):
            store.get(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../adapters", "/etc", "a/b", "spam@", "spam@..", "spam@1@2", "sp am", "C:x"]
)
def test_names_that_are_not_plain_are_refused(name: str, folder: Path) -> None:
    store, before = Store(folder), contents(folder)
    for act in (store.get, store.remove, store.entry, lambda name: store.alias(name, "prod")):
        with pytest.raises(StoreError, match="1 to 64 letters"):
            act(name)
    assert contents(folder) == before


def test_best_is_the_highest_score_in_the_metric_of_the_latest_version(store: Store) -> None:
    for score, metric in [(0.99, "f1"), (0.7, "accuracy"), (0.9, "accuracy"), (0.9, "accuracy"), (0.8, "accuracy")]:
        store.put(created(score=score, metric=metric))
    assert store.entry("spam@best").version == 4
    assert store.get("spam@best").header.score == 0.9


def test_an_alias_points_to_the_version_it_was_given(store: Store) -> None:
    adapters = [created(seed=seed) for seed in range(3)]
    for adapter in adapters:
        store.put(adapter)
    store.alias("spam@2", "prod")
    assert same(store.get("spam@prod"), adapters[1])
    store.alias("spam", "prod")
    store.alias("spam@1", "old")
    assert same(store.get("spam@prod"), adapters[2])
    assert [entry.aliases for entry in store.list()] == [("old",), (), ("prod",)]
    store.put(created(seed=9), alias="prod")
    assert store.entry("spam@prod").version == 4
    store.unalias("spam@prod")
    with pytest.raises(NoSuchAdapter, match="no version of 'spam' called 'prod'"):
        store.get("spam@prod")
    with pytest.raises(NoSuchAdapter, match="no alias of 'spam' called 'prod'"):
        store.unalias("spam@prod")


@pytest.mark.parametrize("alias", ["3", "best", "latest", "", "a/b", "..", "a@1"])
def test_ambiguous_aliases_are_refused(alias: str, folder: Path) -> None:
    store, before = Store(folder), contents(folder)
    with pytest.raises(StoreError, match="cannot be an alias"):
        store.alias("spam@1", alias)
    with pytest.raises(StoreError, match="cannot be an alias"):
        store.put(created(seed=5), alias=alias)
    assert contents(folder) == before


def test_the_number_of_a_removed_version_is_never_used_again(store: Store) -> None:
    for seed in range(3):
        store.put(created(seed=seed))
    store.remove("spam@3")
    assert store.versions("spam") == [1, 2]
    with pytest.raises(NoSuchAdapter):
        store.get("spam@3")
    assert store.put(created(seed=3)).version == 4
    store.remove("spam")
    assert store.list() == []
    assert store.tasks() == []
    with pytest.raises(NoSuchAdapter):
        store.remove("spam")
    assert store.put(created(seed=4)).version == 5
    assert store.verify() == []


def test_removing_a_task_leaves_the_others(store: Store) -> None:
    store.put(created(task="a"))
    store.put(created(task="b"))
    store.remove("a")
    assert store.tasks() == ["b"]
    assert store.get("b").header.task == "b"


def test_a_version_that_an_alias_points_to_is_not_removed(store: Store) -> None:
    store.put(created())
    store.put(created(seed=1), alias="prod")
    for name in ("spam@2", "spam@prod", "spam@latest"):
        with pytest.raises(StoreError, match="spam@2 is what prod points to"):
            store.remove(name)
    assert store.versions("spam") == [1, 2]
    store.alias("spam@1", "prod")
    store.remove("spam@2")
    store.remove("spam")
    store.put(created())
    assert store.list()[0].aliases == ()


def test_a_store_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "adapters").write_text("mine")
    with pytest.raises(StoreError, match="adapters is a file; a store is a folder"):
        Store(tmp_path / "adapters")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "spam").write_text("mine")
    with pytest.raises(StoreError, match="a file, where a task's folder should be"):
        Store(tmp_path / "store").put(created())
    assert (tmp_path / "store" / "spam").read_text() == "mine"


def test_an_address_that_fsspec_does_not_know_is_refused() -> None:
    with pytest.raises(StoreError, match="cannot be opened at 'nowhere://adapters'"):
        Store("nowhere://adapters")


def test_a_file_address_is_a_local_folder(tmp_path: Path) -> None:
    Store(f"file://{tmp_path}/adapters").put(created())
    assert Store(tmp_path / "adapters").tasks() == ["spam"]


def test_a_link_to_a_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    folder.joinpath("spam").rename(tmp_path / "outside")
    folder.joinpath("spam").symlink_to(tmp_path / "outside")
    store, before = Store(folder), contents(tmp_path)
    for act in (store.get, store.remove, store.versions, lambda _: store.put(created())):
        with pytest.raises(StoreError, match="spam is a link"):
            act("spam")
    assert store.list() == []
    assert [problem.problem for problem in store.verify()] == [
        f"{folder / 'spam'} is a link; a store does not read or write through links"
    ]
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["3.safetensors", "aliases.json", ".lock"])
def test_a_link_to_a_file_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes((folder / "spam" / "1.safetensors").read_bytes() if name[0] == "3" else b"{}")
    (folder / "spam" / name).unlink(missing_ok=True)
    (folder / "spam" / name).symlink_to(outside)
    store, before = Store(folder), outside.read_bytes()
    with pytest.raises(StoreError, match=f"{name} is a link"):
        _ = store.get("spam") if name[0] == "3" else store.put(created(), alias="prod")
    assert list(map(str, store.list())) == ["spam@1", "spam@2"]
    assert outside.read_bytes() == before
    if name != ".lock":
        assert [Path(problem.path).name for problem in store.verify()] == [name]
    assert not any(path.endswith(".part") for path in contents(folder))


def test_a_file_in_another_tasks_folder_is_refused(folder: Path) -> None:
    created(task="other").save(folder / "spam" / "3.safetensors")
    store = Store(folder)
    with pytest.raises(AdapterError, match=r"3.safetensors: the header names the task 'other'.*folder of 'spam'"):
        store.get("spam")
    assert list(map(str, store.list())) == ["spam@1", "spam@2"]
    assert [Path(problem.path).name for problem in store.verify()] == ["3.safetensors"]


def test_a_damaged_latest_version_is_an_error(folder: Path) -> None:
    path = folder / "spam" / "2.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    store = Store(folder)
    for name in ("spam", "spam@2", "spam@best"):
        with pytest.raises(AdapterError, match=r"2.safetensors: truncated"):
            store.get(name)
    assert store.get("spam@1").header.task == "spam"
    assert store.put(created(seed=7)).version == 3


def test_list_skips_foreign_and_damaged_files_and_verify_reports_them(folder: Path) -> None:
    spam = folder / "spam"
    sound = [str(entry) for entry in Store(folder).list()]
    (folder / "README.md").write_text("mine")
    (folder / ".git").mkdir()
    (folder / os.fsdecode(b"a\xff")).mkdir()
    (spam / "notes.txt").write_text("mine")
    (spam / "03.safetensors").write_bytes((spam / "1.safetensors").read_bytes())
    (spam / "3.safetensors").write_bytes(b"")
    (spam / "4.safetensors").mkdir()
    (spam / "5.safetensors").write_bytes((spam / "1.safetensors").read_bytes()[:-4])
    changed = bytearray((spam / "1.safetensors").read_bytes())
    changed[-1] ^= 1
    (spam / "6.safetensors").write_bytes(changed)
    tensors = {**tensors_of(Houlsby(size=3)), "head.bias": torch.tensor([0.0, float("nan")])}
    written(spam / "7.safetensors", created().header.to_object(), tensors)
    (spam / ".0123.part").write_bytes(b"half")
    store = Store(folder)
    problems = {Path(problem.path).name: problem.problem for problem in store.verify()}
    expected = (
        "README.md .git a\\udcff notes.txt 03.safetensors 3.safetensors 4.safetensors 5.safetensors 6.safetensors"
    )
    assert sorted(problems) == sorted([*expected.split(), "7.safetensors"])
    assert problems["notes.txt"] == "not a file of a store"
    assert problems["6.safetensors"].startswith("the digest does not match the content")
    assert all(str(problem).isprintable() for problem in store.verify())
    listed = [str(entry) for entry in store.list()]
    assert listed == [*sound, "spam@6", "spam@7"]  # their headers are sound; only verify reads the tensors
    assert store.put(created(seed=7)).version == 8


def test_verify_reports_adapters_of_another_backbone(store: Store) -> None:
    store.put(created())
    store.put(created(backbone=Known(fingerprint="0")))
    assert store.verify() == []
    (problem,) = store.verify(Known())
    assert problem.path.endswith("spam/2.safetensors")
    assert "weights with the fingerprint '0'" in problem.problem


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"prod": "1"}', '{"prod": 1, "prod": 2}', '{"../x": 1}', '{"best": 1}', "\x00", "[" * 100_000],
)
def test_damaged_aliases_are_reported_and_never_overwritten(text: str, folder: Path) -> None:
    store = Store(folder)
    (folder / "spam" / "aliases.json").write_text(text)
    before = contents(folder)
    for act in (
        lambda: store.get("spam@prod"),
        lambda: store.alias("spam@1", "prod"),
        lambda: store.put(created(), alias="prod"),
        lambda: store.remove("spam@1"),
    ):
        with pytest.raises(StoreError, match=r"aliases.json is damaged: .*Repair it, or remove it"):
            act()
    assert [entry.version for entry in store.list()] == [1, 2]
    assert store.get("spam@1").header.task == "spam"
    assert ["aliases.json" in problem.path for problem in store.verify()] == [True]
    assert contents(folder) == before


def test_an_alias_of_a_missing_version_is_reported(folder: Path) -> None:
    (folder / "spam" / "aliases.json").write_text(json.dumps({"prod": 9, "old": 1}))
    store = Store(folder)
    assert [problem.problem for problem in store.verify()] == ["there is no version that prod points to"]
    with pytest.raises(NoSuchAdapter, match="no version of 'spam' called 'prod'"):
        store.get("spam@prod")
    assert store.get("spam@old").header.task == "spam"


def test_gc_removes_old_leftovers_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    spam = folder / "spam"
    old, young, linked = spam / ".1.part", spam / "..2.part.x.part", spam / ".3.part"
    for path in (old, young, spam / "mine.part", spam / ".mine", folder / ".4.part"):
        path.write_bytes(b"half")
        os.utime(path, (1e9, 1e9))
    os.utime(young)
    (tmp_path / "outside").write_text("mine")
    linked.symlink_to(tmp_path / "outside")
    before = contents(folder)
    assert Store(folder).gc() == [str(old)]
    assert contents(folder) == {name: content for name, content in before.items() if name != "spam/.1.part"}
    assert Store(folder).gc(older_than_s=-1.0) == [str(young)]
    assert linked.is_symlink()


def test_a_put_that_fails_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("fsync", "link"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(StoreError, match="adapters cannot be written: No space left on device"):
                Store(folder).put(created())
        assert contents(folder) == before


def test_without_hard_links_nothing_is_overwritten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    before = contents(folder)
    assert Store(folder).put(created(seed=4)).version == 3
    assert {name: contents(folder)[name] for name in before} == before
    assert Store(folder).verify() == []


def test_a_number_that_was_taken_meanwhile_is_not_overwritten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, meanwhile = os.link, created(seed=8)

    def late(part: Path, target: Path) -> None:
        if target.name == "3.safetensors" and not target.exists():
            meanwhile.save(target)
        link(part, target)

    monkeypatch.setattr(os, "link", late)
    store = Store(folder)
    assert store.put(created(seed=9)).version == 4
    assert same(store.get("spam@3"), meanwhile)


def test_two_processes_can_put_at_the_same_time(tmp_path: Path) -> None:
    count, folder = 12, tmp_path / "adapters"
    writers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.writers", "put", str(folder), str(count), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=ENVIRONMENT,
        )
        for seed in (0, 100)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    said = [line.split() for writer in writers for line in writer.communicate()[0].splitlines()]
    assert [writer.returncode for writer in writers] == [0, 0]
    store = Store(folder)
    assert sorted((str(entry.version), entry.digest) for entry in store.list()) == sorted(map(tuple, said))
    assert store.versions("spam") == list(range(1, 2 * count + 1))
    aliases = sorted(alias for entry in store.list() for alias in entry.aliases)
    assert aliases == sorted(f"a{seed + n}" for seed in (0, 100) for n in range(count))
    assert store.verify() == []
    assert not any(name.endswith(".part") for name in contents(folder))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_killing_a_writer_loses_and_damages_nothing(tmp_path: Path) -> None:
    num_put = num_removed = 0
    for attempt in range(6):  # on a busy machine a writer may be killed before it gets to remove anything
        command = [sys.executable, "-m", "tests.writers", "killed", str(tmp_path / f"adapters{attempt}"), "15"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ENVIRONMENT)
        assert done.returncode == 0, done.stderr
        put, removed, _ = map(int, done.stdout.split())
        num_put, num_removed = num_put + put, num_removed + removed
        if num_put > 3 and num_removed > 0:
            break
    assert num_put > 3
    assert num_removed > 0
