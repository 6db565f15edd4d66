"""From a URI to a store, and to the local directory that stands for it.

Credentials come from the environment, never from the URI.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from distcond.errors import ConfigError
from distcond.registry import describe_unknown
from distcond.storage.store import Store, describe_storage_error

#: What a URI may begin with.
SCHEMES = ("s3", "file", "gs", "hdfs", "abfss")

#: Seconds to connect, and how often the S3 library tries by itself.
CONNECT_SECONDS, TRIES = 5.0, 3

_S3 = ("endpoint_override", "region", "scheme")


def is_uri(place: str) -> bool:
    """Whether a text names a place by URI: `s3://...`, also where the scheme is unknown."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", place) is not None


def child_uri(uri: str, name: str) -> str:
    """The URI of what is called `name` below `uri`; the query stays where it is."""
    head, mark, query = uri.partition("?")
    return f"{head.rstrip('/')}/{name}{mark}{query}"


def uri_name(uri: str) -> str:
    """The last name in the path of a URI."""
    return uri.partition("?")[0].rstrip("/").rpartition("/")[2]


def parent_uri(uri: str) -> str:
    """The URI without its last name."""
    head, mark, query = uri.partition("?")
    return f"{head.rstrip('/').rpartition('/')[0]}{mark}{query}"


def open_store(uri: str) -> Store:
    """The store at a URI. Nothing is sent yet; `Store.check` finds out whether it can be used.

    Raises:
        ConfigError: an unknown scheme, no bucket or path, credentials in the URI, or pyarrow is missing.
    """
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES:
        raise ConfigError(
            f"{_without_secrets(uri)}: {describe_unknown('scheme', parts.scheme, SCHEMES)}, or a plain path"
        )
    if "@" in parts.netloc and (parts.scheme != "abfss" or ":" in parts.netloc.partition("@")[0]):
        raise ConfigError(
            f"{_without_secrets(uri)}: credentials in a URI end up in files and logs; give them in the environment"
        )
    local = parts.scheme == "file"
    if not (parts.netloc or parts.scheme in ("file", "hdfs")) or (
        local and (parts.netloc or not parts.path.strip("/"))
    ):
        wanted = "file:///DIR" if parts.scheme == "file" else f"{parts.scheme}://BUCKET/PREFIX"
        raise ConfigError(f"{uri}: names no {'directory' if parts.scheme == 'file' else 'bucket'}; write {wanted}")
    try:
        filesystem, base = _s3(uri) if parts.scheme == "s3" else _other(uri)
    except ImportError as error:
        raise ConfigError(f"{uri}: storage by URI needs pyarrow: pip install pyarrow ({error})") from error
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError(describe_storage_error(uri, error)) from error
    return Store(uri, filesystem, base.rstrip("/"))


def _s3(uri: str) -> tuple[Any, str]:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    for name in options:
        if name not in _S3:
            raise ConfigError(f"{_without_secrets(uri)}: {describe_unknown('option', name, _S3)}")
    if "endpoint_override" in options:
        # Not every S3-compatible server understands the checksums that the S3 library would send behind the content.
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        options.setdefault("region", os.environ.get("AWS_REGION", "us-east-1"))
    strategy = AwsStandardS3RetryStrategy(max_attempts=TRIES)
    made = S3FileSystem(**options, connect_timeout=CONNECT_SECONDS, retry_strategy=strategy, allow_delayed_open=True)
    return made, f"{parts.netloc}{unquote(parts.path)}"


def _other(uri: str) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem, LocalFileSystem

    if uri.startswith("file:"):
        return LocalFileSystem(), unquote(urlsplit(uri).path)  # spaces and the like as they are
    filesystem, base = FileSystem.from_uri(uri)
    return filesystem, base


def _without_secrets(uri: str) -> str:
    return re.sub(r"//[^/]*@", "//", uri.partition("?")[0])


def staging(uri: str, cache_dir: str, purpose: str = "staging") -> Path:
    """The directory below `cache_dir` that stands for `uri`; for each purpose another one.

    The machine's name is in it: a cache in a home directory may be shared by machines that each need a copy of their
    own.
    """
    head, _, query = uri.partition("?")
    digest = hashlib.blake2b(f"{head.rstrip('/')}?{query}".encode(), digest_size=5).hexdigest()
    readable = re.sub(r"[^\w.-]+", "_", uri_name(uri))[:40]
    folder = Path(cache_dir).expanduser().absolute() / purpose / socket.gethostname()
    return folder / f"{readable}-{digest}"
