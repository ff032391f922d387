"""The Hugging Face hub: adapters pushed to a repository with their card, pulled from one, and the files of others.

A repository holds ``adapter.safetensors``, the adapter's file as a store has it, and ``README.md``, its card. The token
is found where the hub's own tools keep it (``HF_TOKEN``, ``hf auth login``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.adapters.adapter import Adapter
from polytask.adapters.header import Header
from polytask.adapters.store import Entry, Store
from polytask.backbones.checkpoint import ALIASES
from polytask.errors import AdapterError, StoreError

FILE, CARD = "adapter.safetensors", "README.md"


@dataclass(frozen=True)
class Pushed:
    """What was pushed, or with ``dry_run`` would have been: the files' sizes, and the commit (None in a dry run)."""

    repository: str
    files: dict[str, int]
    private: bool
    commit: str | None = None
    url: str | None = None


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
    """Put an adapter of a store into a repository of the hub, made if it is not there.

    Args:
        store: where it is.
        name: ``spam``, ``spam@2``, ``spam@best``.
        repository: ``OWNER/NAME``.
        card: the README in Markdown; by default a short one. The hub checks its metadata before anything is written.
        private: whether the repository is to be private. One that is there and public is refused then.
        dry_run: look at everything and send nothing.
        endpoint: another hub than the usual one.

    Raises:
        NoSuchAdapter: the store has none.
        StoreError: the hub refuses it, cannot be reached, or the repository is public.
    """
    adapter, entry = store.get(name), store.entry(name)
    contents = {FILE: adapter.to_bytes(), CARD: (card or short_card(entry)).encode()}
    sizes = {file: len(content) for file, content in contents.items()}
    _checked_metadata(contents[CARD].decode())
    if dry_run:
        return Pushed(repository, sizes, private)
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=endpoint, library_name="polytask")
    with _plainly(repository, StoreError):
        api.create_repo(repository, private=private, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise StoreError(f"{repository} is there and public. Push to another, or say that it may be: --public")
        operations = [CommitOperationAdd(file, content) for file, content in contents.items()]
        done = api.create_commit(repository, operations, commit_message=f"{entry}, digest {entry.digest[:16]}")
    return Pushed(repository, sizes, private, done.oid, str(done.repo_url))


def pull(
    store: Store, repository: str, *, task: str | None = None, alias: str | None = None, endpoint: str | None = None
) -> Entry:
    """Fetch an adapter from the hub into a store, as a new version.

    Args:
        repository: ``OWNER/NAME``, or ``OWNER/NAME@revision`` for a branch, tag or commit.
        task: what it is called here; by default as in its file.
        alias: as in ``Store.put``.

    Raises:
        AdapterError: there is no such repository, or it holds no sound adapter.
    """
    adapter = pulled(repository, endpoint=endpoint)
    return store.put(adapter if task is None else adapter.renamed(task), alias=alias)


def pulled(repository: str, *, endpoint: str | None = None) -> Adapter:
    """The adapter in a repository of the hub, ``OWNER/NAME`` or ``OWNER/NAME@revision``.

    Raises:
        AdapterError: there is no such repository, or it holds no sound adapter.
    """
    from huggingface_hub import hf_hub_download

    name, _, revision = repository.removeprefix("hub:").partition("@")
    with _plainly(name, AdapterError):
        path = hf_hub_download(name, FILE, revision=revision or None, endpoint=endpoint, library_name="polytask")
    return Adapter.load(path)


def fetched(repository: str, revision: str | None, wanted: Sequence[str]) -> tuple[Path, str]:
    """A folder with the files of a repository that match, and the commit that they are of.

    Raises:
        AdapterError: there is no such repository, or it cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with _plainly(repository, AdapterError):
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(wanted)))
    return folder, folder.name


@contextmanager
def _plainly(repository: str, error: type[AdapterError] | type[StoreError]) -> Iterator[None]:
    """What the hub's library raises, as one line."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.errors import LocalEntryNotFoundError as NotHere

    try:
        yield
    except NotHere as cause:
        raise error(
            f"{repository} is not in the cache, and the hub cannot be reached. Look at HF_HUB_OFFLINE and HF_HOME"
        ) from cause
    except HFValidationError as cause:
        raise error(f"{repository!r} is no name of a repository: give OWNER/NAME") from cause
    except (HfHubHTTPError, OSError, ValueError) as cause:
        if isinstance(cause, AdapterError | StoreError):
            raise
        status = getattr(getattr(cause, "response", None), "status_code", None)
        advice = _ADVICE.get(status, "")
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0].rstrip(".:")
        raise error(f"{repository}: the hub says: {reason}{advice}") from cause


_ADVICE: dict[int | None, str] = {
    401: ". Log in with hf auth login, or set HF_TOKEN",
    403: ". The token may not write there",
    404: ". There is no such repository, or it is private and the token may not read it",
}


def _checked_metadata(card: str) -> None:
    """Refuse a card whose metadata is no YAML of a card, before anything is sent.

    Raises:
        StoreError: it is not.
    """
    from huggingface_hub import ModelCard

    try:
        ModelCard(card)
    except Exception as error:
        raise StoreError(f"the card's metadata cannot be read: {str(error).splitlines()[0]}") from error


def short_card(entry: Entry) -> str:
    """A card with the metadata that the hub reads, and how to use the adapter."""
    from huggingface_hub import ModelCardData

    header = entry.header
    data = ModelCardData(
        library_name="polytask",
        tags=["polytask", "adapter", header.method.name],
        pipeline_tag="text-classification" if header.head.kind in ("classification", "multilabel") else None,
        metrics=[header.metric],
        **_base(header),
    )
    return (
        f"---\n{data.to_yaml()}\n---\n\n# {entry.task}\n\n"
        f"An adapter of {_shown(header.backbone.name)} for a {header.head.kind} task, trained with Polytask.\n\n"
        f'```\npolytask pull OWNER/NAME\npolytask predict --task {entry.task} "a text"\n```\n'
    )


def _base(header: Header) -> dict[str, Any]:
    """The backbone, where it is on the hub."""
    name = ALIASES[header.backbone.name][2] if header.backbone.name in ALIASES else header.backbone.name
    return {"base_model": name} if name.count("/") == 1 and not Path(name).is_absolute() else {}


def _shown(name: str) -> str:
    """A backbone's name without the folders of this machine."""
    return Path(name).name if Path(name).is_absolute() else name
