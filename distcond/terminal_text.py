"""Names are data: text from files and paths, made safe for terminals and for Markdown."""

from __future__ import annotations

import re

#: Control characters, and those that change the direction of text or are invisible.
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
_UNSAFE, _UNSAFE_IN_LINE = re.compile(f"[{_CONTROL}]"), re.compile(f"[{_CONTROL}\t\n]")
_MARKUP = re.compile(r"[\\`*{}\[\]<>|~#!&$]|(?<![^\W_])_|_(?![^\W_])")


def printable(text: str) -> str:
    """The text with control characters as escapes, so that it changes nothing but lines on a terminal."""
    return _UNSAFE.sub(_escape, text)


def printable_line(text: str) -> str:
    """Like `printable`, on one line."""
    return _UNSAFE_IN_LINE.sub(_escape, text)


def has_control(text: str) -> bool:
    """Whether a text holds control characters, line breaks included."""
    return _UNSAFE_IN_LINE.search(text) is not None


def markdown_text(text: str) -> str:
    """The text for Markdown, with every markup character shown as it is."""
    return _MARKUP.sub(lambda match: f"\\{match[0]}", printable_line(text))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "backslashreplace").decode()
