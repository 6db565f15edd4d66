"""The command line of a report: run directories and options."""

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

OPTIONS = ("sa", "ra", "by", "reference", "split", "classes", "all", "png", "html")


@dataclass
class ReportQuery:
    """The folders and the options of a report, as text. Properties parse an option when it is used."""

    roots: list[Path] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    @property
    def demand(self) -> Demand | None:
        """The accuracies to reach; None without `sa` and `ra`."""
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
        """The split to report."""
        return check_choice("split", self.options.get("split", "test"), ("test", "val"))

    @property
    def classes(self) -> bool:
        """Whether to report SA and RA per class."""
        per_class: bool = self.every_class or parse_value("classes", self.options.get("classes", False), bool)
        return per_class

    @property
    def every_run(self) -> bool:
        """Whether to show every run in full, however many there are."""
        shown: bool = parse_value("all", self.options.get("all", False), bool)
        return shown

    @property
    def every_class(self) -> bool:
        """Whether the tables show all classes, however many there are."""
        return self.options.get("classes") == "all"

    @property
    def png(self) -> Path:
        """The file of the figure; by default curves.png in the first folder, or in the working directory."""
        if "png" in self.options:
            return require_target("png", Path(self.options["png"]).expanduser())
        folder = self.roots[0]
        if not can_write(folder):  # runs of another user
            folder = Path.cwd()
            require_target("png", folder / "curves.png")
        return folder / "curves.png"

    @property
    def html(self) -> Path | None:
        """The file of the page; None without `html`."""
        return require_target("html", Path(self.options["html"]).expanduser()) if "html" in self.options else None


def parse_query(argv: Sequence[str]) -> ReportQuery:
    """Split a command line into folders and options.

    Raises:
        ConfigError: an unknown option, or no folder.
    """
    query = ReportQuery()
    for text in argv:
        option = re.fullmatch(rf"({'|'.join(OPTIONS)})>?=(.+)", text, re.DOTALL)
        if option:
            query.options[option[1]] = option[2]
        elif text in OPTIONS and not Path(text).exists():
            raise ConfigError(f"{text}: no value; write {text}=VALUE (quote {text}>=VALUE: the shell redirects on >)")
        elif text.startswith("-") or ("=" in text and not Path(text).exists()):
            raise ConfigError(describe_unknown("option of a report", text.partition("=")[0].lstrip("-"), OPTIONS))
        else:
            query.roots.append(Path(text).expanduser())
    if not query.roots:
        raise ConfigError("no folder; name a run directory or a folder of runs")
    return query
