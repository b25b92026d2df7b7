"""Files of a model hub: from its local cache, and from the network only when the user orders it.

The order is ``WARDROUND_ALLOW_DOWNLOAD=1``; everything else happens with the hub's client in offline mode.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ALLOW_DOWNLOAD = "WARDROUND_ALLOW_DOWNLOAD"


def downloads_allowed() -> bool:
    """True when the user ordered downloads with WARDROUND_ALLOW_DOWNLOAD=1 and did not set the hub offline."""
    return os.environ.get(ALLOW_DOWNLOAD) == "1" and os.environ.get("HF_HUB_OFFLINE", "0") in ("", "0")


@contextmanager
def network_as_allowed() -> Iterator[None]:
    """Keep the hub's client offline inside, unless downloads are allowed."""
    import huggingface_hub.constants as hub

    if downloads_allowed():
        yield
        return
    # The client reads its variable once, at import, so the constant is set as well as the variables that other
    # libraries read.
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    before, constant = {name: os.environ.get(name) for name in names}, hub.HF_HUB_OFFLINE
    os.environ.update(dict.fromkeys(names, "1"))
    hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = constant
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def hub_file(repository: str, files: Sequence[str]) -> Path | None:
    """The first of ``files`` that is in the local hub cache, or, when allowed, that can be fetched."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    for local in (True, False) if downloads_allowed() else (True,):
        for file in files:
            try:
                with network_as_allowed():
                    return Path(hf_hub_download(repository, file, local_files_only=local))
            except (EntryNotFoundError, HfHubHTTPError, HFValidationError, ConnectionError, FileNotFoundError):
                continue
    return None
