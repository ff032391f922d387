"""Pushes adapters to the Hugging Face hub, with a model card, and downloads adapters and other libraries' files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polytask.adapters.adapter import Adapter
from polytask.adapters.entry import Entry
from polytask.adapters.hub import CARD as CARD
from polytask.adapters.hub import FILE as FILE
from polytask.adapters.hub import Pushed as Pushed
from polytask.adapters.hub import hub_entry, one_line_errors
from polytask.adapters.hub import short_card as short_card
from polytask.adapters.store import Store
from polytask.errors import AdapterError


def push(
    store: Store,
    name: str,
    repository: str,
    *,
    card: str | None = None,
    private: bool = True,
    dry_run: bool = False,
    endpoint: str | None = None,
) -> Pushed:
    """Upload an adapter of a store to a repository on the hub; creates the repository if needed.

    Args:
        store: the store that has the adapter.
        name: ``spam``, ``spam@2``, ``spam@best``.
        repository: ``OWNER/NAME``.
        card: the README in Markdown; by default a short one. Its metadata is checked before anything is sent.
        private: make the repository private; refuses an existing public one.
        dry_run: check everything and send nothing.
        endpoint: URL of another hub.

    Raises:
        NoSuchAdapter: the store has none.
        StoreError: the hub refuses the upload or cannot be reached, or the repository is public.
    """
    return store.push(name, repository, card=card, private=private, dry_run=dry_run, endpoint=endpoint)


def pull(
    store: Store, repository: str, *, task: str | None = None, alias: str | None = None, endpoint: str | None = None
) -> Entry:
    """Download an adapter from the hub into a store, as a new version.

    Args:
        store: the store.
        repository: ``OWNER/NAME``, or ``OWNER/NAME@revision`` for a branch, tag or commit.
        task: the name of the task in the store; by default the one in the file.
        alias: as in ``Store.put``.
        endpoint: URL of another hub.

    Raises:
        AdapterError: there is no such repository, or it does not hold a valid adapter.
    """
    return store.pull(repository, task=task, alias=alias, endpoint=endpoint)


def load_from_hub(repository: str, *, endpoint: str | None = None) -> Adapter:
    """Load the adapter in a repository of the hub, ``OWNER/NAME`` or ``OWNER/NAME@revision``.

    Raises:
        AdapterError: there is no such repository, or it does not hold a valid adapter.
    """
    return Adapter.load(hub_entry(repository, endpoint=endpoint).path)


def download_files(repository: str, revision: str | None, wanted: Sequence[str]) -> tuple[Path, str]:
    """Download the matching files of a repository; returns their folder and the commit.

    Raises:
        AdapterError: there is no such repository, or it cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with one_line_errors(repository, AdapterError):
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(wanted)))
    return folder, folder.name
