"""The command line of a report: run directories, and options that say what to choose by and where to draw."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distcond.config.fields import check_choice, parse_value
from distcond.errors import ConfigError
from distcond.path_errors import can_write, require_target
from distcond.registry import describe_unknown
from distcond.results.selection import Demand, parse_accuracy

OPTIONS = ("sa", "ra", "by", "reference", "split", "classes", "png", "html")


@dataclass
class ReportQuery:
    """Folders, and the words given, as text."""

    places: list[Path] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    @property
    def demand(self) -> Demand | None:
        """The levels to reach, if any were given."""
        levels = {name: parse_accuracy(name, self.options[name]) for name in ("sa", "ra") if name in self.options}
        sure = check_choice("by", self.options.get("by", "estimate"), ("estimate", "interval")) == "interval"
        return Demand(**levels, sure=sure) if levels else None

    @property
    def reference(self) -> tuple[float, float]:
        """The reference point of the hypervolume, (SA, RA)."""
        parts = self.options.get("reference", "0,0").split(",")
        if len(parts) != 2:
            raise ConfigError(f"reference={','.join(parts)}: expected two accuracies SA,RA, such as 0.1,0")
        return parse_accuracy("reference", parts[0]), parse_accuracy("reference", parts[1])

    @property
    def split(self) -> str:
        """The split whose rows are read."""
        return check_choice("split", self.options.get("split", "test"), ("test", "val"))

    @property
    def classes(self) -> bool:
        """Whether classes are looked at by themselves."""
        wanted: bool = self.every_class or parse_value("classes", self.options.get("classes", False), bool)
        return wanted

    @property
    def every_class(self) -> bool:
        """Whether the tables of classes leave none out, however many there are."""
        return self.options.get("classes") == "all"

    @property
    def png(self) -> Path:
        """Where the figure goes."""
        if "png" in self.options:
            return require_target("png", Path(self.options["png"]).expanduser())
        folder = self.places[0]
        if not can_write(folder):  # somebody else's runs
            folder = Path.cwd()
            require_target("png", folder / "curves.png")
        return folder / "curves.png"

    @property
    def html(self) -> Path | None:
        """Where the page goes, if one is wanted."""
        return require_target("html", Path(self.options["html"]).expanduser()) if "html" in self.options else None


def parse_query(argv: Sequence[str]) -> ReportQuery:
    """The folders and words of a command line; each word's value is looked at where it is used.

    Raises:
        ConfigError: an unknown word, or no folder.
    """
    question = ReportQuery()
    for text in argv:
        found = re.fullmatch(rf"({'|'.join(OPTIONS)})>?=(.+)", text, re.DOTALL)
        if found:
            question.options[found[1]] = found[2]
        elif text in OPTIONS and not Path(text).exists():
            raise ConfigError(f"{text}: no value; write {text}=VALUE ({text}>=VALUE needs quotes: '>' is the shell's)")
        elif text.startswith("-") or ("=" in text and not Path(text).exists()):
            raise ConfigError(describe_unknown("word of a report", text.partition("=")[0].lstrip("-"), OPTIONS))
        else:
            question.places.append(Path(text).expanduser())
    if not question.places:
        raise ConfigError("no folder; name a run directory or a directory of runs")
    return question
