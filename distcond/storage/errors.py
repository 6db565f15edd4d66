"""Errors of a store as one line that names cause and remedy."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

from distcond.errors import ConfigError, TransientError

_NO_CREDENTIALS = "no valid credentials; give them in the environment (S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
_NETWORK = r"NETWORK_CONNECTION|curlCode|connect|resolve|timed? ?out|Timeout|no answer"
_UNREACHABLE = "not reachable"
_SERVER_ERROR = "server error; try again later"

#: Pattern in the file system's message -> cause and remedy. The first match counts.
_CAUSES = (
    (r"ACCESS_KEY|SIGNATURE|credential|No response body|TOKEN_|HTTP status 401|UNAUTHORIZED|invalid_grant",
     _NO_CREDENTIALS),
    (r"ACCESS_DENIED|HTTP status 403|Permission denied|Read-only|PERMISSION", "not allowed to; ask for write access"),
    (r"NO_SUCH_BUCKET|bucket does not exist|NoSuchBucket|404.*bucket", "no such bucket; create it first"),
    (_NETWORK, _UNREACHABLE),
    (r"HTTP status 5\d\d|SLOW_DOWN|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|\bUNAVAILABLE\b", _SERVER_ERROR),
    (r"No space left|quota|ENOSPC", "full"),
)  # fmt: skip


class StorageError(OSError):
    """An operation on a store failed. The message is one line."""


def describe_storage_error(uri: str, error: BaseException) -> str:
    """`URI: no valid credentials; give them ... (message of the file system)`; the URI without its query."""
    uri = uri.partition("?")[0]
    text = " ".join(str(error).split()) or type(error).__name__
    message = textwrap.shorten(text, 160, placeholder=" ...")
    if uri.startswith("s3:") and not _has_s3_credentials() and not re.search(_NETWORK, text):
        return f"{uri}: {_NO_CREDENTIALS}"
    for pattern, cause in _CAUSES:
        if re.search(pattern, text, re.IGNORECASE):
            return f"{uri}: {cause} ({message})"
    return f"{uri}: {message}"


def as_config_error(error: OSError) -> ConfigError:
    """The error to raise where a command cannot continue without the store.

    TransientError if the store did not answer or reported an error of its own: the same command may work later.
    """
    transient = re.search(f": {_UNREACHABLE}|: {_SERVER_ERROR}|: no answer", str(error))
    return TransientError(str(error)) if transient else ConfigError(str(error))


def _has_s3_credentials() -> bool:
    """Whether there is any sign of S3 credentials.

    Servers answer a request without credentials with many different errors, most of which name another reason.
    """
    variables = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
                 "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")  # fmt: skip
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    metadata = os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true" and Path("/sys/hypervisor").exists()
    return any(map(os.environ.get, variables)) or Path(file).expanduser().is_file() or metadata
