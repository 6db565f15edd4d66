"""URIs of stores: parse one, open its store, and find the local directory that mirrors it.

Credentials come from the environment, never from the URI.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from distcond.errors import ConfigError
from distcond.registry import describe_unknown
from distcond.storage.errors import describe_storage_error
from distcond.storage.store import Store

#: Valid schemes of a URI.
SCHEMES = ("s3", "file", "gs", "hdfs", "abfss")

#: Seconds until a connection attempt to S3 fails, and tries of the S3 library.
CONNECT_SECONDS, TRIES = 5.0, 3

_S3_OPTIONS = ("endpoint_override", "region", "scheme")


def is_uri(place: str) -> bool:
    """Whether a text is a URI (`s3://...`), also one with an unknown scheme."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", place) is not None


def child_uri(uri: str, name: str) -> str:
    """The URI of `name` below `uri`; the query stays at the end."""
    head, mark, query = uri.partition("?")
    return f"{head.rstrip('/')}/{name}{mark}{query}"


def uri_name(uri: str) -> str:
    """The last name in the path of a URI."""
    return uri.partition("?")[0].rstrip("/").rpartition("/")[2]


def parent_uri(uri: str) -> str:
    """The URI without its last name."""
    head, mark, query = uri.partition("?")
    return f"{head.rstrip('/').rpartition('/')[0]}{mark}{query}"


def staging(uri: str, cache_dir: str, purpose: str = "staging") -> Path:
    """The directory below `cache_dir` that mirrors `uri`; each purpose has its own.

    The host name is part of it: machines may share a cache in a home directory, and each needs its own copy.
    """
    head, _, query = uri.partition("?")
    digest = hashlib.blake2b(f"{head.rstrip('/')}?{query}".encode(), digest_size=5).hexdigest()
    readable = re.sub(r"[^\w.-]+", "_", uri_name(uri))[:40]
    folder = Path(cache_dir).expanduser().absolute() / purpose / socket.gethostname()
    return folder / f"{readable}-{digest}"


def open_store(uri: str) -> Store:
    """The store at a URI. Sends nothing yet; `Store.check` finds out whether it can be used.

    Raises:
        ConfigError: an unknown scheme, no bucket or path, credentials in the URI, or pyarrow is missing.
    """
    parts = urlsplit(uri)
    _check_uri(uri, parts)
    try:
        filesystem, base = _s3_file_system(uri, parts) if parts.scheme == "s3" else _other_file_system(uri, parts)
    except ImportError as error:
        raise ConfigError(f"{uri}: storage by URI needs pyarrow: pip install pyarrow ({error})") from error
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError(describe_storage_error(uri, error)) from error
    return Store(uri, filesystem, base.rstrip("/"))


def _check_uri(uri: str, parts: SplitResult) -> None:
    shown = _without_secrets(uri)
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"{shown}: {describe_unknown('scheme', parts.scheme, SCHEMES)}, or a plain path")
    # abfss://CONTAINER@ACCOUNT names no user, unless there is a password.
    if "@" in parts.netloc and (parts.scheme != "abfss" or ":" in parts.netloc.partition("@")[0]):
        raise ConfigError(f"{shown}: credentials in a URI end up in files and logs; give them in the environment")
    if parts.scheme == "file":
        if parts.netloc or not parts.path.strip("/"):
            raise ConfigError(f"{uri}: names no directory; write file:///DIR")
    elif not parts.netloc and parts.scheme != "hdfs":
        raise ConfigError(f"{uri}: names no bucket; write {parts.scheme}://BUCKET/PREFIX")


def _s3_file_system(uri: str, parts: SplitResult) -> tuple[Any, str]:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    options = dict(parse_qsl(parts.query))
    for name in options:
        if name not in _S3_OPTIONS:
            raise ConfigError(f"{_without_secrets(uri)}: {describe_unknown('option', name, _S3_OPTIONS)}")
    if "endpoint_override" in options:
        # Not every S3-compatible server understands the checksums that the S3 library sends after the content.
        os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        options.setdefault("region", os.environ.get("AWS_REGION", "us-east-1"))
    strategy = AwsStandardS3RetryStrategy(max_attempts=TRIES)
    filesystem = S3FileSystem(
        **options, connect_timeout=CONNECT_SECONDS, retry_strategy=strategy, allow_delayed_open=True
    )
    return filesystem, f"{parts.netloc}{unquote(parts.path)}"


def _other_file_system(uri: str, parts: SplitResult) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem, LocalFileSystem

    if parts.scheme == "file":  # spaces and the like stay as they are
        return LocalFileSystem(), unquote(parts.path)
    filesystem, base = FileSystem.from_uri(uri)
    return filesystem, base


def _without_secrets(uri: str) -> str:
    return re.sub(r"//[^/]*@", "//", uri.partition("?")[0])
