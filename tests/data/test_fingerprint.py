from __future__ import annotations

import os
from pathlib import Path

from distcond.data.checksums import fingerprint


def make(root: Path, **contents: str) -> list[Path]:
    root.mkdir()
    for name, text in contents.items():
        (root / name).write_text(text)
    return [root / name for name in contents]


def test_fingerprints_do_not_depend_on_location(tmp_path: Path) -> None:
    here = make(tmp_path / "here", a="1", b="2")
    there = make(tmp_path / "there", a="1", b="2")
    for path in there:
        os.utime(path, (0, 0))
    assert fingerprint(here, tmp_path / "here") == fingerprint(reversed(there), tmp_path / "there")


def test_fingerprints_change_with_content_and_names(tmp_path: Path) -> None:
    variants = [{"a": "1", "b": "2"}, {"a": "1", "b": "3"}, {"a": "1", "c": "2"}, {"a": "12", "b": ""}, {"a": "1"}]
    roots = [tmp_path / str(number) for number in range(len(variants))]
    found = {fingerprint(make(root, **variant), root) for root, variant in zip(roots, variants, strict=True)}
    assert len(found) == len(variants)


def test_above_the_limit_only_names_and_sizes_count(tmp_path: Path) -> None:
    files = make(tmp_path / "one", a="123"), make(tmp_path / "two", a="456"), make(tmp_path / "three", a="1234")
    one, two, three = (fingerprint(paths, paths[0].parent, max_bytes=2) for paths in files)
    assert one == two != three
