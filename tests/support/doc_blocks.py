"""The code blocks of README.md, CONTRIBUTING.md and docs/, and the distcond commands in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
SEPARATORS = ("&&", "||", "|", ";", "&")
COMMANDS = ("train", "evaluate", "calibrate", "pair", "reproduce", "tune", "report", "status", "export", "serve")
#: Commands of the console script `distcond` and their modules.
SCRIPT = {
    **{name: f"distcond.{name}" for name in COMMANDS},
    "slurm": "cluster.slurm",
    "job": "cluster.ray_job",
}


@dataclass(frozen=True)
class Block:
    """A fenced block, page and line where it starts, and why no test runs its commands ("" = a test checks them)."""

    page: str
    line: int
    language: str
    text: str
    reason: str

    @property
    def name(self) -> str:
        """Where it is, for the name of a test."""
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """The pages for users: reports are records of what was run once, at a commit of the time."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(*languages: str) -> list[Block]:
    """Every block of these languages, in order."""
    found = []
    for page in pages():
        text = page.read_text()
        for match in FENCE.finditer(text):
            line = text[: match.start()].count("\n") + 1
            name = str(page.relative_to(ROOT))
            found.append(Block(name, line, match["language"], match["text"], match["reason"] or ""))
    return [block for block in found if block.language in languages]


def commands(text: str) -> list[list[str]]:
    """The commands of a shell block as words: lines continued by a backslash are joined, comments are dropped."""
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if word not in SEPARATORS:
                command.append(word)
            elif command:
                found.append(command)
                command = []
    return found


def distcond_call(words: list[str]) -> tuple[str, list[str]] | None:
    """(module, arguments) of a command that calls distcond or cluster, also through torchrun, Ray or a container."""
    for at, word in enumerate(words):
        if word == "-m" and at + 1 < len(words) and words[at + 1].startswith(("distcond.", "cluster.")):
            return words[at + 1], words[at + 2 :]
        if word.rpartition("/")[2] == "distcond" and at + 1 < len(words) and words[at + 1] in SCRIPT:
            return SCRIPT[words[at + 1]], words[at + 2 :]
    return None
