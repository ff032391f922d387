"""Damaged and malicious adapter files are read correctly or raise ``AdapterError``, in little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import polytask
from polytask.adapters.adapter import MAX_FILE_BYTES, MAX_TENSORS, Adapter, read_header
from polytask.adapters.header import MAX_HEADER_BYTES, Header
from polytask.errors import AdapterError
from polytask.methods import FullFineTuning, Houlsby
from tests.samples import created, raw, same, written

ADAPTER = created(Houlsby(size=2))
HEADER = ADAPTER.header.to_object()
CONTENT = ADAPTER.to_bytes()
PREAMBLE_BYTES = int.from_bytes(CONTENT[:8], "little")
FEW = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
DELETED = object()


def changed(path: str, value: object) -> dict[str, Any]:
    """The header with one field changed: ``backbone.hidden``."""
    header = deepcopy(HEADER)
    inner, *names = header, *path.split(".")
    for name in names[:-1]:
        inner = inner[name]
    inner[names[-1]] = value
    if value is DELETED:
        del inner[names[-1]]
    return header


def test_the_sample_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", HEADER, ADAPTER.tensors)
    assert same(Adapter.load(path), ADAPTER)


@pytest.mark.parametrize(
    "length", [*range(0, 24), PREAMBLE_BYTES, PREAMBLE_BYTES + 8, len(CONTENT) - 4, len(CONTENT) - 1]
)
def test_truncated_files_are_refused(length: int, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(CONTENT[:length])
    with pytest.raises(AdapterError, match=f"{path}: truncated"):
        Adapter.load(path)


def test_files_that_go_on_are_refused() -> None:
    with pytest.raises(AdapterError, match="too long: the tensors take"):
        Adapter.from_bytes(CONTENT + b"\0\0\0\0")


def test_altered_tensors_are_refused(tmp_path: Path) -> None:
    tensors = {name: tensor.clone() for name, tensor in ADAPTER.tensors.items()}
    tensors["layer.1.attn_out.up.weight"][0, 0] += 1e-3
    with pytest.raises(AdapterError, match="altered after it was made"):
        Adapter.load(written(tmp_path / "a.safetensors", HEADER, tensors))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("task", "scam"),
        ("head.labels", ["spam", "ham"]),
        ("head.kind", "multilabel"),
        ("method.activation", "relu"),
        ("method.init_std", 0.02),
        ("pooling", "cls"),
        ("backbone.name", "other"),
        ("backbone.fingerprint", "0" * 64),
        ("tokenizer", "0" * 64),
        ("metric", "f1"),
        ("score", 0.99),
        ("recipe.epochs", 4),
        ("result.rows", 11),
        ("versions.torch", "2.6"),
        ("digest", "0" * 64),
    ],
)
def test_an_altered_header_is_refused(path: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="altered after it was made"):
        Adapter.load(written(tmp_path / "a.safetensors", changed(path, value), ADAPTER.tensors))


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("extra", 1, "the header has unknown fields: 'extra'"),
        ("head.extra", 1, "'head' has unknown fields: 'extra'"),
        ("backbone.extra", 1, "'backbone' has unknown fields: 'extra'"),
        ("method.extra", 1, "not matching: extra"),
        *((name, DELETED, f"missing fields: '{name}'") for name in HEADER),
        ("head.labels", DELETED, "'head' has missing fields: 'labels'"),
        ("backbone.hidden", DELETED, "'backbone' has missing fields: 'hidden'"),
        ("method.size", DELETED, "not matching: size"),
        ("method.name", DELETED, "described by its name"),
        *((name, None, "is a NoneType; it must be a") for name in HEADER if name not in ("format",)),
        ("format", 3, r"has format 3; this version of Polytask reads formats \(1, 2\)"),
        ("format", 2, "says format 2 but has the fields of format 1"),
        ("format", None, "has format None"),
        ("format", True, "'format' of the header is a bool"),
        ("format", "1", "has format '1'"),
        ("task", "../../etc", "cannot be a task's name"),
        ("head", [], "'head' of the header is a list"),
        ("head.labels", "ab", "'labels' of 'head' is a str"),
        ("head.labels", [[]], "not a name"),
        ("head.kind", "x", "kind is 'x'"),
        ("method.name", "hulsby", "no method called 'hulsby'"),
        ("method.name", ["houlsby"], "described by its name"),
        ("method.size", "2", "whole number"),
        ("method.size", 2.0, "whole number"),
        ("method.size", True, "whole number"),
        ("method.size", 0, "whole number"),
        ("method.size", 10**30, "cannot be built"),
        ("method.activation", "swish", "no activation called 'swish'"),
        ("method.activation", ["relu"], "the method cannot be read"),
        ("method.init_std", "x", "the method cannot be read"),
        ("method.init_std", None, "the method cannot be read"),
        ("method.layers", "all", "the method cannot be read"),
        ("method.layers", [0, 0], "distinct"),
        ("method.layers", {}, "layers={}: give a count from the top"),
        ("method.layers", "", "layers='': give a count from the top"),
        ("method.layers", [[0]], "the method cannot be read"),
        ("method.layers", 10**15, "do not all exist"),
        ("method.layers", [0, 2], "do not all exist"),
        ("method.layers", [1], "exclude"),
        ("pooling", "max", "pooling is 'max'"),
        ("backbone.hidden", 8.0, "'hidden' of 'backbone' is a float"),
        ("backbone.hidden", -8, "'hidden' is -8"),
        ("backbone.hidden", 10**400, "'hidden' is 1000"),
        ("backbone.hidden", 16, "has shape"),
        ("backbone.layers", 3, "is missing"),
        ("backbone.layers", 1, "a layer beyond the backbone's last, 0"),
        ("score", 10**400, "not a finite number"),
        ("versions", {"torch": {}}, "version strings"),
        ("created", "yesterday", "'created' is 'yesterday'"),
        ("created", "2026-11-22T20:46:00+01:00", "'created' is"),
        ("created", "2026-2-2T20:46:00Z", "'created' is"),
        ("digest", "F" * 64, "64 hexadecimal digits"),
        ("recipe.notes", "\ud800", "cannot be written as JSON"),
    ],
)
def test_headers_that_do_not_keep_the_schema_are_refused(
    path: str, value: object, problem: str, tmp_path: Path
) -> None:
    file = written(tmp_path / "a.safetensors", changed(path, value), ADAPTER.tensors)
    with pytest.raises(AdapterError, match=problem) as raised:
        Adapter.load(file)
    assert str(raised.value).startswith(f"{file}: ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not valid JSON"),
        ("[]", "the header is a list; it must be a JSON object"),
        ('{"format": 1, "format": 1}', "it has a key twice"),
        (json.dumps(HEADER).replace("0.75", "NaN"), "NaN is not a JSON number"),
        (json.dumps(HEADER).replace("0.75", "1e999"), "not a finite number"),
        (json.dumps(changed("recipe", {"rate": 0.5})).replace("0.5}", "1e999}"), "cannot be written as JSON"),
        ("[" * 200_000, "not valid JSON"),
        ('{"a":' * 100_000, "not valid JSON"),
        ("9" * 100_000, "not valid JSON"),
        (" " * (MAX_HEADER_BYTES + 1), "at most 1,048,576 are read"),
    ],
    ids=range(10),
)
def test_headers_that_are_not_sound_json_are_refused(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=problem):
        Adapter.load(written(tmp_path / "a.safetensors", text, ADAPTER.tensors))


def entry(**given: object) -> bytes:
    """A preamble with one tensor, described as given."""
    described = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **given}
    return json.dumps({"__metadata__": {"polytask": json.dumps(HEADER)}, "a": described}).encode()


@pytest.mark.parametrize(
    ("preamble", "problem"),
    [
        (b"{}", "not an adapter of Polytask"),
        (b"[]", "not an adapter of Polytask"),
        (b"null", "not an adapter of Polytask"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"__metadata__": {"format": "pt"}}', "not an adapter of Polytask"),
        (b'{"__metadata__": {"polytask": 1}}', "not an adapter of Polytask"),
        (b'{"__metadata__": {"polytask": "", "more": "hidden"}}', "not an adapter of Polytask"),
        (b'{"__metadata__": {"polytask": ""}, "__metadata__": {}}', "twice"),
        (entry(dtype="F16"), "'a' is of type 'F16'; all are 'F32'"),
        (entry(dtype=["F32"]), "all are 'F32'"),
        (entry(more=1), "not described by its dtype, shape and offsets"),
        (entry(shape=[2**62, 4]), "an impossible shape"),
        (entry(shape=[2**30, 4]), "truncated: the tensors take 17,179,869,184 bytes"),
        (entry(shape=[-1]), "an impossible shape"),
        (entry(shape=[1.0]), "an impossible shape"),
        (entry(shape=[True]), "an impossible shape"),
        (entry(shape=[1] * 9), "an impossible shape"),
        (entry(shape="1"), "an impossible shape"),
        (entry(data_offsets=[4, 8]), "not a valid safetensors file"),
        (entry(data_offsets=[4, 0]), "not a valid safetensors file"),
        (entry(data_offsets=["0", "4"]), "not a valid safetensors file"),
        (entry(data_offsets=[0, 2**70]), "not a valid safetensors file"),
    ],
)
def test_files_that_are_not_sound_safetensors_are_refused(preamble: bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=problem):
        Adapter.load(raw(tmp_path / "a.safetensors", preamble, b"\0\0\0\0"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32])
def test_tensors_of_another_type_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {**ADAPTER.tensors, "head.bias": torch.zeros(2, dtype=dtype)}
    with pytest.raises(AdapterError, match=r"'head.bias' is of type"):
        Adapter.load(written(tmp_path / "a.safetensors", HEADER, tensors))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    tensors = {**ADAPTER.tensors, "head.bias": torch.tensor([0.0, value])}
    with pytest.raises(AdapterError, match=r"'head.bias' holds NaN or an infinity"):
        Adapter.load(written(tmp_path / "a.safetensors", HEADER, tensors))


def test_a_torch_pickle_is_not_read(tmp_path: Path) -> None:
    trace = tmp_path / "ran"

    class Runs:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(trace),)

    torch.save({"head.weight": Runs()}, tmp_path / "a.safetensors")
    with pytest.raises(AdapterError, match="truncated, or not a safetensors file"):
        Adapter.load(tmp_path / "a.safetensors")
    assert not trace.exists()


def test_files_above_the_bound_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(CONTENT)
        file.truncate(MAX_FILE_BYTES + 1)  # takes no room on the disk
    with pytest.raises(AdapterError, match="too large: 8,589,934,593 bytes"):
        Adapter.load(path)


def test_more_tensors_than_any_adapter_has_are_refused(tmp_path: Path) -> None:
    full = created(FullFineTuning())
    many = {f"backbone.encoder.layer.{n % 2}.w{n}": torch.zeros(1) for n in range(MAX_TENSORS)}
    with pytest.raises(AdapterError, match="tensors, and at most 16,384 are read"):
        Adapter.load(written(tmp_path / "a.safetensors", full.header.to_object(), {**full.tensors, **many}))
    with pytest.raises(AdapterError, match="more than a file may hold"):
        created(FullFineTuning(), tensors={**full.tensors, **many})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(AdapterError, match="not a regular file"):
        Adapter.load(tmp_path / "a.safetensors")
    with pytest.raises(AdapterError, match="not a regular file"):
        Adapter.load("/dev/zero")


BOUNDED = """
import resource, sys, torch
from polytask.adapters.adapter import Adapter
from polytask.errors import AdapterError
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20),) * 2)
for path in sys.argv[1:]:
    try:
        Adapter.load(path)
    except AdapterError as error:
        print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
def test_claims_of_huge_sizes_reserve_no_memory(tmp_path: Path) -> None:
    sizes = HEADER | {"backbone": {**HEADER["backbone"], "hidden": 1 << 20, "layers": 512}}
    method = HEADER | {"method": {**HEADER["method"], "size": 1 << 30}}
    files = [
        (written(tmp_path / "backbone.safetensors", sizes, ADAPTER.tensors), "has shape"),
        (written(tmp_path / "method.safetensors", method, ADAPTER.tensors), "has shape"),
        (raw(tmp_path / "tensor.safetensors", entry(shape=[1 << 31]), b"\0\0\0\0"), "truncated"),
        (tmp_path / "preamble.safetensors", "truncated"),
    ]
    files[-1][0].write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    command = [sys.executable, "-c", BOUNDED, *(str(path) for path, _ in files)]
    root = Path(polytask.__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    for (path, problem), said in zip(files, done.stdout.splitlines(), strict=True):
        assert said.startswith(str(path))
        assert problem in said


def test_the_header_is_read_without_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(CONTENT)
    with path.open("rb") as stream:
        assert read_header(stream, len(CONTENT)) == ADAPTER.header
        assert stream.tell() == 8 + PREAMBLE_BYTES


def read_or_refused(content: bytes) -> None:
    """Only the same adapter, or an AdapterError."""
    try:
        adapter = Adapter.from_bytes(content)
    except AdapterError:
        return
    assert same(adapter, ADAPTER)


@FEW
@given(st.integers(0, 8 * len(CONTENT) - 1))
@example(0)
@example(8 * len(CONTENT) - 1)
def test_any_flipped_bit_is_noticed(bit: int) -> None:
    content = bytearray(CONTENT)
    content[bit // 8] ^= 1 << bit % 8
    read_or_refused(bytes(content))


def test_every_flipped_bit_of_the_preamble_is_noticed() -> None:
    for byte in range(8 + PREAMBLE_BYTES):
        content = bytearray(CONTENT)
        content[byte] ^= 1 << byte % 8
        read_or_refused(bytes(content))


@FEW
@given(st.integers(0, len(CONTENT)))
def test_any_truncation_is_noticed(length: int) -> None:
    read_or_refused(CONTENT[:length])


@FEW
@given(st.data())
def test_any_splice_is_noticed(data: st.DataObject) -> None:
    start, end = sorted((data.draw(st.integers(0, len(CONTENT))), data.draw(st.integers(0, len(CONTENT)))))
    read_or_refused(CONTENT[:start] + data.draw(st.binary(max_size=16)) + CONTENT[end:])


@FEW
@given(st.binary(max_size=400))
def test_random_bytes_are_refused(content: bytes) -> None:
    read_or_refused(content)
    read_or_refused(len(content).to_bytes(8, "little") + content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted([*HEADER, *(f"{outer}.{name}" for outer in ("head", "method", "backbone") for name in HEADER[outer])])


@FEW
@given(st.sampled_from(FIELDS), JSON)
def test_random_fields_are_refused_or_noticed(path: str, value: object) -> None:
    try:
        header = Header.from_json(json.dumps(changed(path, value)))
        Adapter(header, ADAPTER.tensors)
    except AdapterError:
        return
    assert {**header.to_object(), "created": ""} == {**HEADER, "created": ""}


@FEW
@given(JSON)
def test_random_headers_are_refused(value: object) -> None:
    with pytest.raises(AdapterError):
        Header.from_json(json.dumps(value))


@FEW
@given(st.dictionaries(st.text(max_size=12), JSON, max_size=4), st.binary(max_size=8))
def test_random_preambles_are_refused(entries: dict[str, object], content: bytes) -> None:
    preamble = json.dumps({"__metadata__": {"polytask": json.dumps(HEADER)}, **entries}).encode()
    read_or_refused(len(preamble).to_bytes(8, "little") + preamble + content)


def test_what_cannot_be_written_again_is_not_listed_either() -> None:
    with pytest.raises(AdapterError, match="cannot be written as JSON"):
        Header.from_json(json.dumps(changed("backbone.name", "\ud800")))
