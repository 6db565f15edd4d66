"""Files at a URI: on a real S3 server and on a local file system."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from distcond.errors import ConfigError, TransientError
from distcond.storage.errors import StorageError, as_config_error, describe_storage_error
from distcond.storage.uri import child_uri, is_uri, open_store, parent_uri, uri_name


@pytest.fixture(params=["file", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty, writable URI."""
    if request.param == "file":
        return f"file://{tmp_path}/a place"
    found: str = request.getfixturevalue("s3").uri
    return found


def test_put_and_get_round_trip(uri: str, tmp_path: Path) -> None:
    store, file, back = open_store(uri), tmp_path / "file", tmp_path / "x" / "back"
    assert store.names() == {}
    for content in (b"", b"few", os.urandom(12 * 2**20)):  # the last in several parts
        file.write_bytes(content)
        assert store.put(file, "a/b/file.bin") == len(content)
        store.get("a/b/file.bin", back)
        assert back.read_bytes() == content == store.read("a/b/file.bin")
        assert {name: stat.size for name, stat in store.names().items()} == {"a/b/file.bin": len(content)}


def test_listing_files_and_folders(uri: str) -> None:
    store = open_store(uri)
    for name in ("one/a", "one/b/c", "two/a", "two/.hidden", ".x/y"):
        store.put_bytes(b"1", name)
    assert set(store.names()) == {"one/a", "one/b/c", "two/a"}
    assert set(store.names("one")) == {"one/a", "one/b/c"}
    assert set(open_store(child_uri(uri, "one")).names()) == {"a", "b/c"}
    assert [name for name in store.folders() if not name.startswith(".")] == ["one", "two"]
    assert store.exists("one/a")
    assert not store.exists("one")
    store.delete("one/a")
    store.delete("one/a")
    assert set(store.names("one")) == {"one/b/c"}
    store.delete_below("one")
    store.delete_below("one")
    assert set(store.names()) == {"two/a"}


def test_missing_file_raises_file_not_found(uri: str, tmp_path: Path) -> None:
    store = open_store(uri)
    store.put_bytes(b"1", "some")
    (tmp_path / "back").write_text("as it was")
    with pytest.raises(FileNotFoundError):
        store.get("none", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "as it was"
    with pytest.raises(FileNotFoundError):
        store.read("none")


def test_check_leaves_nothing_behind(uri: str) -> None:
    store = open_store(uri)
    store.check()
    assert store.names() == {}


def test_missing_bucket_and_bad_credentials_are_refused(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such bucket" in refused(s3.at("nobody/runs"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert "no valid credentials; give them in the environment" in refused(s3.uri)


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    denied = OSError("AWS Error ACCESS_DENIED during PutObject operation: Access Denied")  # as Amazon words it
    assert "AWS_ACCESS_KEY_ID" in describe_storage_error("s3://bucket/x", denied)
    assert "not reachable" in describe_storage_error(
        "s3://bucket/x", OSError("AWS Error NETWORK_CONNECTION curlCode: 7")
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    assert "not allowed to" in describe_storage_error("s3://bucket/x", denied)


@pytest.mark.parametrize(
    "message",
    [
        "When uploading part: AWS Error UNKNOWN (HTTP status 503) during UploadPart operation: Service Unavailable",
        "AWS Error SLOW_DOWN during PutObject operation: Please reduce your request rate.",
        "AWS Error INTERNAL_FAILURE during PutObject operation: We encountered an internal error. Please try again.",
        "google::cloud::Status(UNAVAILABLE: Retry policy exhausted)",
    ],
)
def test_server_errors_may_be_retried(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    line = describe_storage_error("s3://bucket/x", OSError(message))
    assert line.startswith("s3://bucket/x: server error; try again later (")
    assert isinstance(as_config_error(OSError(line)), TransientError)
    assert not isinstance(as_config_error(OSError("s3://bucket/x: full (No space left)")), TransientError)


def test_stopped_server_is_not_reachable(s3: Any) -> None:
    s3.stop()
    assert "not reachable" in refused(s3.uri)
    with pytest.raises(StorageError, match="not reachable"):
        open_store(s3.uri).names()


def test_unwritable_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert str(tmp_path) in refused(f"file://{tmp_path}/file/below")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s4://bucket/x", "unknown scheme 's4': valid: s3, file"),
        ("s3://?scheme=http", "names no bucket; write s3://BUCKET/PREFIX"),
        ("s3://key:secret@bucket/x", "give them in the environment"),
        ("s3://bucket/x?endpoint=1.2.3.4", "did you mean endpoint_override"),
        ("file://", "write file:///DIR"),
    ],
)
def test_incomplete_or_unsafe_uri_is_refused(uri: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=r"^.*$") as error:
        open_store(uri)
    assert expected in str(error.value)
    assert "secret" not in str(error.value).replace("credentials", "")


def test_child_parent_and_name_of_uri() -> None:
    uri = "s3://bucket/runs?scheme=http"
    assert child_uri(uri, "one") == "s3://bucket/runs/one?scheme=http"
    assert (uri_name(child_uri(uri, "one")), parent_uri(child_uri(uri, "one"))) == ("one", uri)
    assert is_uri(uri)
    assert not is_uri("runs/a:b")
    assert not is_uri("/runs")


def refused(uri: str) -> str:
    """The one-line message with which `Store.check` refuses a URI."""
    with pytest.raises(ConfigError) as error:
        open_store(uri).check()
    assert "\n" not in str(error.value)
    assert str(error.value).count(uri.partition("?")[0]) == 1
    assert "endpoint_override=" not in str(error.value)
    return str(error.value)
