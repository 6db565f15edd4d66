"""What a file system says when it cannot, in one line that names the cause and the remedy."""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

from distcond.errors import ConfigError, NotNow

_NO_KEY = "no valid credentials; give them in the environment (S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
_NETWORK = r"NETWORK_CONNECTION|curlCode|connect|resolve|timed? ?out|Timeout|no answer"

_AWAY = "not reachable"
_ILL = "in trouble itself; try again later"
_TROUBLE = r"HTTP status 5\d\d|SLOW_DOWN|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|\bUNAVAILABLE\b"

_CAUSES = (
    (r"ACCESS_KEY|SIGNATURE|credential|No response body|TOKEN_|HTTP status 401|UNAUTHORIZED|invalid_grant",
     _NO_KEY),
    (r"ACCESS_DENIED|HTTP status 403|Permission denied|Read-only|PERMISSION", "not allowed to; ask for write access"),
    (r"NO_SUCH_BUCKET|bucket does not exist|NoSuchBucket|404.*bucket", "no such bucket; make it first"),
    (_NETWORK, _AWAY),
    (_TROUBLE, _ILL),
    (r"No space left|quota|ENOSPC", "full"),
)  # fmt: skip


def refusal(uri: str, error: BaseException) -> str:
    """`URI: no valid credentials; give them ... (what the file system said)`; the URI without its query."""
    uri = uri.partition("?")[0]
    text = " ".join(str(error).split()) or type(error).__name__
    said = textwrap.shorten(text, 160, placeholder=" ...")
    if uri.startswith("s3:") and not _has_s3_key() and not re.search(_NETWORK, text):
        return f"{uri}: {_NO_KEY}"
    for pattern, cause in _CAUSES:
        if re.search(pattern, text, re.IGNORECASE):
            return f"{uri}: {cause} ({said})"
    return f"{uri}: {said}"


def refused(error: OSError) -> ConfigError:
    """What to raise where nothing can go on without the storage that met `error`.

    NotNow if it did not answer, or had trouble of its own.
    """
    away = re.search(f": {_AWAY}|: {_ILL}|: no answer", str(error))
    return NotNow(str(error)) if away else ConfigError(str(error))


def _has_s3_key() -> bool:
    """Whether there is any sign of credentials: without, servers refuse in many ways that name another reason."""
    signs = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
             "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")  # fmt: skip
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    metadata = os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true" and Path("/sys/hypervisor").exists()
    return any(map(os.environ.get, signs)) or Path(file).expanduser().is_file() or metadata
