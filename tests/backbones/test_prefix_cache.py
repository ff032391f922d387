"""The cache returns states unchanged or not at all: limits, eviction, and damaged, foreign, shared or deleted files."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from polytask.backbones import prefix_cache
from polytask.backbones.prefix_cache import SUFFIX, PrefixCache, key_of

STATES = [torch.randn(length, 4, generator=torch.Generator().manual_seed(length)) for length in range(1, 9)]
KEYS = [key_of(bytes([number])) for number in range(len(STATES))]


def filled(cache: PrefixCache) -> PrefixCache:
    for key, states in zip(KEYS, STATES, strict=True):
        cache.put(key, states)
    cache.flush()
    return cache


def held(cache: PrefixCache) -> list[int]:
    """The lengths of the states that are cached; each must equal what was put."""
    found: list[Tensor | None] = [cache.get(key) for key in KEYS]
    for states, expected in zip(found, STATES, strict=True):
        assert states is None or torch.equal(states, expected)
    return [len(states) for states in found if states is not None]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def test_keys_differ_where_any_part_or_its_end_does() -> None:
    assert key_of(b"ab", b"c") == key_of(b"ab", b"c")
    assert len({key_of(b"ab", b"c"), key_of(b"a", b"bc"), key_of(b"abc"), key_of(b"ab", b"d")}) == 4


def test_states_in_memory_come_back_up_to_the_budget() -> None:
    assert held(filled(PrefixCache())) == [1, 2, 3, 4, 5, 6, 7, 8]
    small = filled(PrefixCache(memory_bytes=6 * 16))
    assert held(small) == [1, 2, 3]
    assert small.used_bytes == 6 * 16


def test_states_of_an_earlier_generation_are_evicted_first() -> None:
    cache = filled(PrefixCache(memory_bytes=6 * 16))
    with cache.in_use():
        assert cache.get(KEYS[2]) is not None
        cache.put(KEYS[3], STATES[3])
        assert held(cache) == [3]  # 1 and 2 left, and 4 does not fit beside 3, which is in use
        cache.put(KEYS[0], STATES[0])
        assert held(cache) == [1, 3]
    assert cache.used_bytes == 4 * 16


def test_states_beyond_the_memory_limit_go_to_files_that_other_processes_read(tmp_path: Path) -> None:
    cache = filled(PrefixCache(6 * 16, tmp_path, segment_bytes=10 * 16))
    assert len(files(tmp_path)) == 2
    assert held(cache) == [1, 2, 3, 4, 5, 6, 7, 8]
    code = (
        "import sys; from polytask.backbones.prefix_cache import PrefixCache\n"
        "from tests.backbones.test_prefix_cache import held\n"
        "print(held(PrefixCache(0, sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[4, 5, 6, 7, 8]"


def test_files_that_another_process_adds_are_seen(tmp_path: Path) -> None:
    one, other = PrefixCache(0, tmp_path), PrefixCache(0, tmp_path)
    assert held(other) == []
    filled(one)
    assert held(other) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_files_may_be_deleted_at_any_time(tmp_path: Path) -> None:
    cache = filled(PrefixCache(0, tmp_path, segment_bytes=1))
    assert cache.get(KEYS[0]) is not None
    for file in files(tmp_path):
        file.unlink()
    assert held(cache) == [1, 2, 3, 4, 5, 6, 7, 8]  # what is mapped stays
    assert held(PrefixCache(0, tmp_path)) == []
    tmp_path.rmdir()
    assert held(filled(PrefixCache(0, tmp_path))) == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("left", [0, 7, 100, -1, -30])
def test_a_truncated_file_is_ignored_and_written_again(tmp_path: Path, left: int) -> None:
    filled(PrefixCache(0, tmp_path))
    (file,) = files(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[:left])
    cache = PrefixCache(0, tmp_path)
    assert held(cache) == []
    assert held(filled(cache)) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert file.read_bytes() == content


def test_states_that_were_changed_on_the_disk_are_refused_one_by_one(tmp_path: Path) -> None:
    filled(PrefixCache(0, tmp_path))
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    at = bytes(content).index(STATES[4].numpy().tobytes())
    content[at + 3] ^= 1
    file.write_bytes(content)
    assert held(PrefixCache(0, tmp_path)) == [1, 2, 3, 4, 6, 7, 8]


def test_a_changed_index_is_refused_whole(tmp_path: Path) -> None:
    filled(PrefixCache(0, tmp_path))
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    content[bytes(content).index(KEYS[4]) + 3] ^= 1
    file.write_bytes(content)
    assert held(PrefixCache(0, tmp_path)) == []


def test_foreign_files_are_ignored_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / f"a{SUFFIX}").write_text("a letter")
    save_file({"states": torch.zeros(3)}, tmp_path / f"b{SUFFIX}")
    (tmp_path / f"c{SUFFIX}").mkdir()
    cache = filled(PrefixCache(0, tmp_path))
    assert held(cache) == held(PrefixCache(0, tmp_path)) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (tmp_path / f"a{SUFFIX}").read_text() == "a letter"


def test_files_stay_within_their_budget_and_the_oldest_make_room(tmp_path: Path) -> None:
    filled(PrefixCache(0, tmp_path, segment_bytes=1))
    budget = sum(file.stat().st_size for file in files(tmp_path))
    cache = PrefixCache(0, tmp_path, folder_bytes=budget, segment_bytes=1)
    with cache.in_use():
        assert cache.get(KEYS[0]) is not None
        cache.put(key_of(b"new"), STATES[2])
        assert cache.get(key_of(b"new")) is not None
    assert sum(file.stat().st_size for file in files(tmp_path)) <= budget
    left = PrefixCache(0, tmp_path)
    assert left.get(KEYS[0]) is not None  # the oldest, but in use
    assert left.get(KEYS[1]) is None
    assert held(filled(PrefixCache(0, tmp_path / "small", folder_bytes=10))) == []


def test_with_a_folder_that_cannot_be_written_nothing_is_cached(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert held(filled(PrefixCache(0, tmp_path / "file"))) == []


def test_a_process_killed_while_writing_leaves_whole_files_only(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from polytask.backbones.prefix_cache import PrefixCache, key_of\n"
        "cache, number = PrefixCache(0, sys.argv[1], segment_bytes=1 << 16), 0\n"
        "while True:\n"
        "    cache.put(key_of(str(number).encode()), torch.full((8, 64), float(number))); number += 1\n"
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
        before = time.monotonic()
        while len(files(tmp_path)) < 3 and time.monotonic() - before < 60:
            time.sleep(0.01)
        process.kill()
        process.wait()
        cache = PrefixCache(0, tmp_path)
        found = [cache.get(key_of(str(number).encode())) for number in range(32 * len(files(tmp_path)))]
        assert all(states is not None and bool((states == number).all()) for number, states in enumerate(found))
        for file in files(tmp_path):
            file.unlink()


def test_memory_is_a_share_of_what_is_free_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_cache, "free_bytes", lambda device: 4 * 6 * 16)
    assert held(filled(PrefixCache())) == [1, 2, 3]
