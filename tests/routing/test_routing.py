"""Looped and grouped application give the same output, however unevenly the rows are distributed over adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from polytask.adapters.adapter import Adapter
from polytask.adapters.module import LoadedAdapter
from polytask.backbones.loading import load_backbone
from polytask.dropout import KeyedDropoutSource
from polytask.methods import METHODS, DeltaMethod, FullFineTuning, Houlsby
from polytask.methods.delta import Delta, Norm, Place
from polytask.methods.scaling import tuned_norm
from polytask.routing import groups
from polytask.routing.apply import apply_deltas
from polytask.routing.groups import Group
from polytask.routing.route import Mode, Route
from polytask.routing.stacking import StackCache

WIDTH = 6
METHODS_OF_DELTAS = [name for name, method in METHODS.items() if issubclass(method, DeltaMethod)]


def deltas_of(method: str) -> dict[str, Delta]:
    """Three adapters' deltas at the first site of a method, far from the identity."""
    kind = METHODS[method]
    assert issubclass(kind, DeltaMethod)
    deltas = {}
    for seed, name in enumerate("abc"):
        generator = torch.Generator().manual_seed(seed)
        deltas[name] = kind().delta(Place(kind.sites[0], 0, WIDTH, WIDTH)).double().requires_grad_(False)
        for parameter in deltas[name].parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return deltas


@pytest.mark.parametrize("sizes", [(60, 3, 2, 5, 1), (9, 9, 9, 9, 9), (1, 1, 70, 1, 80), (33, 1, 1, 1, 1)])
@pytest.mark.parametrize("names", ["abcab", "aabbc", "cab-a", "a-b-a"])
@pytest.mark.parametrize("method", METHODS_OF_DELTAS)
def test_grouped_equals_looped(
    method: str, names: str, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "TILE_COST", 0)  # so that so few units are split into two tiles, too
    monkeypatch.setattr(groups, "ADAPTER_COST", 0)
    deltas, base = deltas_of(method), nn.LayerNorm(WIDTH).double()
    x, y = torch.randn(2, sum(sizes), 1, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    route = [None if name == "-" else name for name in names]

    def out(mode: Mode) -> Tensor:
        with torch.no_grad():
            return apply_deltas(
                Route.of(route), deltas, x, y, base, KeyedDropoutSource(), "site", mode, StackCache(), sizes
            )

    torch.testing.assert_close(out("grouped"), out("looped"), rtol=1e-9, atol=1e-9)


def test_an_adapter_with_many_units_gets_a_tile_of_its_own() -> None:
    sizes = (2000, *[100] * 20)
    names = [f"t{number}" for number in range(21)]
    group = Group.of([(name, [row]) for row, name in enumerate(names)], sizes, is_trained=False)
    assert [(len(tile.adapters), tile.width) for tile in group.tiles] == [(21, 104), (1, 1896)]
    even = Group.of([(name, [row]) for row, name in enumerate(names)], (100, *[96] * 20), is_trained=False)
    assert [(len(tile.adapters), tile.width) for tile in even.tiles] == [(21, 104)]


@pytest.mark.parametrize(("longest", "is_looped"), [(47, False), (400, True)])
def test_adapters_run_one_after_another_only_if_padding_costs_more_than_single_calls(
    longest: int, is_looped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "TILE_COST", 1 << 20)  # so that everything is in one tile
    deltas = {name: deltas_of("houlsby")["a"] for name in map(str, range(20))}
    sizes = (longest, *[10] * 19)
    with torch.no_grad():
        found = Route.of(deltas).groups(deltas, "auto", sizes)
    assert len(found) == (20 if is_looped else 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 700)), min_size=1, max_size=12))
def test_each_unit_has_a_place_in_a_tile_of_its_adapter(rows: list[tuple[int, int]]) -> None:
    owned: dict[str, list[int]] = {}
    for row, (owner, _) in enumerate(rows):
        owned.setdefault(f"t{owner}", []).append(row)
    group = Group.of(list(owned.items()), [size for _, size in rows], is_trained=False)
    for extra in (0, 2):  # a stack with other adapters, too
        num_stacked = len(group.adapters) + extra
        positions = tuple(reversed(range(extra, num_stacked)))
        layout = group.layout(positions, num_stacked, torch.device("cpu"))
        assert layout.units[layout.places].tolist() == list(range(sum(group.counts)))
        assert sum(tile.size for tile in layout.tiles) == len(layout.units)
        everyone = list(range(num_stacked))
        of_tiles = [everyone if tile.positions is None else tile.positions.tolist() for tile in layout.tiles]
        owners = [row for own, tile in zip(of_tiles, layout.tiles) for row in own for _ in range(tile.width)]
        assert [owners[place] for place in layout.places.tolist()] == [positions[k] for k in group.adapter_index]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("norm", ["layer", "gain"])
def test_grouped_norms_have_the_bits_of_each_adapter_alone(norm: Norm, dtype: torch.dtype) -> None:
    generator, width, sizes = torch.Generator().manual_seed(0), 48, (5, 1, 30, 4)
    deltas: dict[str, Delta] = {name: tuned_norm(Place("attn_norm", 0, width, width, norm=norm)) for name in "abc"}
    for delta in deltas.values():
        for parameter in delta.requires_grad_(False).parameters():
            parameter.copy_(1 + torch.randn(width, generator=generator))
    x = (3 * torch.randn(sum(sizes), 1, width, generator=generator) + 1).to(dtype)

    def out(mode: Mode) -> Tensor:
        with torch.no_grad():
            given = (deltas, x, x, nn.Identity(), KeyedDropoutSource(), "site", mode, StackCache(), sizes)
            return apply_deltas(Route.of("abca"), *given)

    assert torch.equal(out("grouped"), out("looped"))


def test_a_stack_serves_batches_that_lack_some_of_its_adapters() -> None:
    deltas = list(deltas_of("houlsby").values())
    deltas = [*deltas, *deltas_of("houlsby").values()]
    stacks, how = StackCache(), {"is_trained": False, "is_exact": False}
    first = stacks.get(deltas[:5], torch.float64, **how)
    whole = stacks.get(deltas[1:], torch.float64, **how)
    assert set(map(id, whole.members)) == set(map(id, deltas))
    assert stacks.get(deltas[:5], torch.float64, **how) is whole is not first
    assert whole.positions_of([deltas[0], deltas[1]]) == (5, 0)
    alone = stacks.get(deltas[:2], torch.float64, **how)
    assert alone.members == tuple(deltas[:2]), "a stack of many more adapters than the batch has is not kept"
    assert stacks.get(deltas[:2], torch.float32, **how).dtype == torch.float32


@pytest.mark.parametrize("method", METHODS_OF_DELTAS)
def test_an_answer_does_not_depend_on_the_adapters_of_earlier_batches(method: str) -> None:
    deltas = {f"{name}{copy}": delta for copy in "01" for name, delta in deltas_of(method).items()}
    names, sizes = list(deltas), (4, 7, 1, 3, 2, 9)
    x, y = torch.randn(2, sum(sizes), 1, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(7))

    def out(stacks: StackCache, count: int) -> Tensor:
        units = sum(sizes[:count])
        with torch.no_grad():
            base, source, route = nn.LayerNorm(WIDTH).double(), KeyedDropoutSource(), Route.of(names[:count])
            given = x[:units], y[:units], base, source, "site"
            return apply_deltas(route, deltas, *given, mode="grouped", stacks=stacks, sizes=sizes[:count])

    kept = StackCache()
    out(kept, 6)
    assert torch.equal(out(kept, 5), out(StackCache(), 5))


def test_matrices_of_a_loaded_adapter_have_the_type_of_the_backbone(tiny_bert_folder: Path) -> None:
    in_bf16 = load_backbone(tiny_bert_folder, device="cpu", dtype="bfloat16")
    for method in (Houlsby(4), FullFineTuning()):
        trained = LoadedAdapter(in_bf16, method, "classification", ("no", "yes"), key=(0, "a"))
        adapter = Adapter.create(
            trained.tensors(), task="t", kind="classification", labels=("no", "yes"), method=method, backbone=in_bf16,
            metric="accuracy", score=0.5, recipe={}, versions={}, result={},
        )  # fmt: skip
        live = LoadedAdapter.from_adapter(in_bf16, adapter)
        types = {name: parameter.dtype for name, parameter in live.tree.named_parameters()}
        of_deltas = {name: dtype for name, dtype in types.items() if not name.startswith(("head.", "backbone."))}
        assert all(
            (dtype == torch.bfloat16) == (live.tree.get_parameter(name).dim() > 1) for name, dtype in of_deltas.items()
        )
        assert all(dtype == torch.bfloat16 for name, dtype in types.items() if name.startswith("backbone."))
        assert types["head.weight"] == torch.float32
