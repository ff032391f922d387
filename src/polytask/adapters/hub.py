"""Adapters on the Hugging Face hub: uploads one with its card, and finds those named ``hub:OWNER/NAME[@REVISION]``.

A repository holds ``adapter.safetensors``, the same file as in a store, and ``README.md``, the card. Downloads go to
the cache of the hub's own library, which honours ``HF_HOME`` and ``HF_HUB_OFFLINE``; the token is read from where its
tools keep it (``HF_TOKEN``, ``hf auth login``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polytask.adapters.adapter import Adapter
from polytask.adapters.entry import Entry
from polytask.adapters.header import Header
from polytask.backbones.checkpoint import ALIASES
from polytask.errors import AdapterError, StoreError

PREFIX = "hub:"
"""How a reference to an adapter on the hub begins."""
FILE, CARD = "adapter.safetensors", "README.md"

_REPOSITORY = re.compile(r"[^/@]+/[^/@]+(@.+)?")


@dataclass(frozen=True)
class Pushed:
    """The result of a push: the sizes of the files in bytes, and the commit (None with ``dry_run``)."""

    repository: str
    files: dict[str, int]
    private: bool
    commit: str | None = None
    url: str | None = None


def is_on_hub(reference: str) -> bool:
    """Whether this refers to an adapter on the hub, not in a store."""
    return isinstance(reference, str) and reference.startswith(PREFIX)


def hub_entry(reference: str, *, endpoint: str | None = None) -> Entry:
    """Download the adapter of ``hub:OWNER/NAME`` or ``hub:OWNER/NAME@REVISION`` into the cache, and check it.

    Returns:
        Its entry, whose path is that in the cache and whose name has the commit.

    Raises:
        AdapterError: there is no such repository, or it does not hold a valid adapter.
    """
    given = reference.removeprefix(PREFIX)
    if not _REPOSITORY.fullmatch(given):
        raise AdapterError(f"{reference!r} is not the name of a repository: use OWNER/NAME or OWNER/NAME@REVISION")
    from huggingface_hub import hf_hub_download

    name, _, revision = given.partition("@")
    with one_line_errors(name, AdapterError):
        path = Path(hf_hub_download(name, FILE, revision=revision or None, endpoint=endpoint, library_name="polytask"))
    header, commit = Adapter.load(path).header, path.parent.name
    return Entry(header.task, 0, str(path), path.stat().st_size, (), header, f"{PREFIX}{name}@{commit}")


def upload(
    adapter: Adapter,
    entry: Entry,
    repository: str,
    *,
    card: str | None = None,
    private: bool = True,
    dry_run: bool = False,
    endpoint: str | None = None,
) -> Pushed:
    """Upload an adapter to a repository; see ``Store.push``."""
    contents = {FILE: adapter.to_bytes(), CARD: (card or short_card(entry)).encode()}
    sizes = {file: len(content) for file, content in contents.items()}
    _check_metadata(contents[CARD].decode())
    if dry_run:
        return Pushed(repository, sizes, private)
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=endpoint, library_name="polytask")
    with one_line_errors(repository, StoreError):
        api.create_repo(repository, private=private, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise StoreError(
                f"{repository} exists and is public. Choose another repository, or allow this with --public"
            )
        operations = [CommitOperationAdd(file, content) for file, content in contents.items()]
        done = api.create_commit(repository, operations, commit_message=f"{entry}, digest {entry.digest[:16]}")
    return Pushed(repository, sizes, private, done.oid, str(done.repo_url))


@contextmanager
def one_line_errors(repository: str, error: type[AdapterError] | type[StoreError]) -> Iterator[None]:
    """Convert the errors of the hub's library to one-line errors."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, RevisionNotFoundError
    from huggingface_hub.errors import LocalEntryNotFoundError as NotHere

    try:
        yield
    except NotHere as cause:
        raise error(
            f"{repository} is not in the cache, and the hub cannot be reached. Check HF_HUB_OFFLINE and HF_HOME"
        ) from cause
    except EntryNotFoundError as cause:
        raise error(
            f"{repository} has no {FILE}. Files of peft and adapter-hub are read with polytask import {repository}"
        ) from cause
    except RevisionNotFoundError as cause:
        raise error(f"{repository} has no such branch, tag or commit") from cause
    except HFValidationError as cause:
        raise error(f"{repository!r} is not the name of a repository: use OWNER/NAME") from cause
    except (HfHubHTTPError, OSError, ValueError) as cause:
        if isinstance(cause, AdapterError | StoreError):
            raise
        status = getattr(getattr(cause, "response", None), "status_code", None)
        advice = _ADVICE.get(status, "")
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0].rstrip(".:")
        raise error(f"{repository}: the hub answered: {reason}{advice}") from cause


_ADVICE: dict[int | None, str] = {
    401: ". Log in with hf auth login, or set HF_TOKEN",
    403: ". The token may not write there",
    404: ". There is no such repository, or it is private and the token may not read it",
}


def _check_metadata(card: str) -> None:
    """Check the YAML metadata of a card.

    Raises:
        StoreError: it is invalid.
    """
    from huggingface_hub import ModelCard

    try:
        ModelCard(card)
    except Exception as error:
        raise StoreError(f"the card's metadata is invalid: {str(error).splitlines()[0]}") from error


def short_card(entry: Entry) -> str:
    """A model card with the hub's metadata and an example of use."""
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
    """The metadata field for the backbone; empty if it is not on the hub."""
    name = ALIASES[header.backbone.name][2] if header.backbone.name in ALIASES else header.backbone.name
    return {"base_model": name} if name.count("/") == 1 and not Path(name).is_absolute() else {}


def _shown(name: str) -> str:
    """A backbone's name, without the folders of a local path."""
    return Path(name).name if Path(name).is_absolute() else name
