"""``LoadedAdapters``: the adapters on a backbone, read when they are first used."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from polytask.adapters.attach import Attached
from polytask.adapters.module import LoadedAdapter
from polytask.adapters.store import Store
from polytask.backbones.backbone import Backbone


class LoadedAdapters(Mapping[str, LoadedAdapter]):
    """Adapters on a backbone, by name, which any threads may use, load and unload.

    An adapter is read once, however many threads ask for it at a time. One that is unloaded during a call leaves when
    the call ends. As a mapping this holds the adapters that are not about to leave.

    Args:
        backbone: a frozen backbone.
        store: where adapters are read from.
    """

    def __init__(self, backbone: Backbone, store: Store) -> None:
        self.backbone, self.store = backbone, store
        self.attached = Attached.of(backbone)
        self._adapters: dict[str, LoadedAdapter] = {}
        self._leaving: dict[str, LoadedAdapter] = {}
        self._uses: Counter[str] = Counter()
        self._reading, self._lock = threading.Lock(), threading.Lock()

    def __getitem__(self, name: str) -> LoadedAdapter:
        return self._adapters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._adapters)

    def __len__(self) -> int:
        return len(self._adapters)

    @contextmanager
    def in_use(self, names: Iterable[str]) -> Iterator[dict[str, LoadedAdapter]]:
        """These adapters, which stay on the backbone within the block.

        Raises:
            NoSuchAdapter: there is none of a name.
            IncompatibleAdapter: one belongs to another backbone.
        """
        with ExitStack() as uses:
            adapters = {}
            for name in dict.fromkeys(names):
                adapters[name] = self._use(name)
                uses.callback(self._end_use, name)
            yield adapters

    def unload(self, name: str) -> None:
        """Take an adapter off the backbone, once no call uses it; nothing happens if it is not there."""
        with self._lock:
            if name in self._adapters:
                self._leaving[name] = self._adapters.pop(name)
            self._remove_unused(name)

    def _use(self, name: str) -> LoadedAdapter:
        """Count a use of an adapter; the first one reads it, and all who ask meanwhile wait for that."""
        found = self._counted(name)
        if found is not None:
            return found
        with self._reading:
            found = self._counted(name)
            if found is not None:
                return found
            adapter = LoadedAdapter.from_adapter(self.backbone, self.store.get(name))
            with self._lock:
                if adapter.deltas:
                    self.attached.add(name, adapter.deltas)
                self._adapters[name] = adapter
                self._uses[name] += 1
            return adapter

    def _counted(self, name: str) -> LoadedAdapter | None:
        """An adapter that is on the backbone, with one more use; None if it is not."""
        with self._lock:
            if name in self._leaving:  # unloaded and asked for again before it was gone
                self._adapters[name] = self._leaving.pop(name)
            if name in self._adapters:
                self._uses[name] += 1
            return self._adapters.get(name)

    def _end_use(self, name: str) -> None:
        with self._lock:
            self._uses[name] -= 1
            self._remove_unused(name)

    def _remove_unused(self, name: str) -> None:
        """Take an unloaded adapter off the backbone if no call uses it."""
        if self._uses[name]:
            return
        del self._uses[name]
        adapter = self._leaving.pop(name, None)
        if adapter is not None and adapter.deltas:
            self.attached.remove(name)
