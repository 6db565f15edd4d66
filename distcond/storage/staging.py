"""Where a run works that lives at a URI: a directory of this machine, the same for the same URI."""

from __future__ import annotations

import hashlib
import re
import socket
from pathlib import Path

from distcond.storage.uri import last_name


def staging(uri: str, cache_dir: str, purpose: str = "staging") -> Path:
    """The directory below `cache_dir` that stands for `uri`; for each purpose another one.

    The machine's name is in it: a cache in a home directory may be shared by machines that each need a copy of their
    own.
    """
    head, _, query = uri.partition("?")
    digest = hashlib.blake2b(f"{head.rstrip('/')}?{query}".encode(), digest_size=5).hexdigest()
    readable = re.sub(r"[^\w.-]+", "_", last_name(uri))[:40]
    folder = Path(cache_dir).expanduser().absolute() / purpose / socket.gethostname()
    return folder / f"{readable}-{digest}"
