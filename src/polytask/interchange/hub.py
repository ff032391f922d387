"""The Hugging Face hub: fetching the files of a repository."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from polytask.errors import AdapterError


def fetched(repository: str, revision: str | None, wanted: Sequence[str]) -> tuple[Path, str]:
    """A folder with the files of a repository that match, and the commit that they are of.

    Raises:
        AdapterError: there is no such repository, or it cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=list(wanted)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise AdapterError(f"{repository} cannot be fetched from the hub: {reason}") from error
    return folder, folder.name
