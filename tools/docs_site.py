"""Hooks of mkdocs.yml: the reference pages, written from the code at each build, and links to files outside docs/.

A link such as `../cluster/compose.yaml` is right in a checkout; in the site it leads to a copy of that file.
"""

from __future__ import annotations

import contextlib
import io
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from distcond.cli import COMMANDS

ROOT = Path(__file__).parents[1]
CLUSTER_COMMANDS = ("cluster.slurm.__main__", "cluster.ray_job", "cluster.kubernetes.__main__")
OUTSIDE = re.compile(r"\]\((\.\./[^)#\s]+)")
NOT_RUN = re.compile(r"^<!-- not run: (.+?) -->$", re.MULTILINE)


def on_config(config: Any) -> Any:
    """List reports that mkdocs.yml does not name at the end of its section, so that a new report is one new file."""
    (reports,) = [section["Reports"] for section in config.nav if "Reports" in section]
    listed = {page for entry in reports for page in entry.values()}
    for file in sorted(Path(config.docs_dir, "reports").glob("*.md")):
        if f"reports/{file.name}" not in listed:
            reports.append({file.read_text().partition("\n")[0].lstrip("# "): f"reports/{file.name}"})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the reference pages, and the files outside docs/ that pages link to."""
    for name, page in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    for file in list(files.documentation_pages()):
        for path in _outside_files(file.src_uri, file.content_string):
            if files.get_file_from_path(f"source/{path}") is None:
                files.append(File.generated(config, f"source/{path}", content=(ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links outside docs/ to the copies, and show why the commands of a block are not run by a test."""
    folder = posixpath.dirname(page.file.src_uri)

    def copied(match: re.Match[str]) -> str:
        path = _repository_path(page.file.src_uri, match[1])
        return f"]({posixpath.relpath(f'source/{path}', folder or '.')}" if path else match[0]

    return NOT_RUN.sub(r"<small>The tests do not run these commands: \1.</small>\n", OUTSIDE.sub(copied, markdown))


def _outside_files(page: str, markdown: str) -> list[str]:
    return [path for link in OUTSIDE.findall(markdown) if (path := _repository_path(page, link))]


def _repository_path(page: str, link: str) -> str:
    """The path from the root of the repository of a link that leaves docs/; "" for one that stays inside."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link))
    return "" if path.startswith("docs/") else path


def settings_page() -> str:
    """Every setting with default and meaning; the options of each method, model and sampler."""
    from distcond.config.overrides import settings_of
    from distcond.config.schema import Config
    from distcond.registry import table

    rows = [(path, value, text) for path, value, text in settings_of(Config()) if not path.endswith(".name")]
    rows += [
        (f"{group}.name", getattr(Config(), group).name, f"see [names](names.md); also `{group}=NAME`")
        for group in ("data", "launch")
    ]
    groups = dict.fromkeys(path.rpartition(".")[0] for path, _, _ in rows)
    parts = [
        "# Settings\n\nEvery setting of a run, as `PATH=VALUE` on the command line or in the dict given to "
        "`distcond.train`. Numbers may be fractions (`8/255`), tuples are comma-separated. The defaults are those of "
        "the code; a recipe changes some, and `distcond train RECIPE --help` shows its values."
    ]
    for name in groups:
        of_group = [row for row in rows if row[0].rpartition(".")[0] == name]
        parts.append(f"## {name or 'The run'}\n\n" + _settings_table(of_group))
    for kind in ("method", "model", "sampler"):
        parts.append(f"## Options of each {kind}")
        for name, value in table(kind).items():
            own = [(f"{kind}.{path}", option, text) for path, option, text in settings_of(value.options)]
            own = [row for row in own if row[0] != f"{kind}.name"]
            parts.append(f"### {kind}={name}\n\n{_sentence(value.summary)}\n\n" + (_settings_table(own) if own else ""))
    return "\n\n".join(parts)


def _settings_table(rows: Iterable[tuple[str, Any, str]]) -> str:
    from distcond.config.command_line import _text

    return _table(
        ("setting", "default", "meaning"),
        [(f"`{path}`", f"`{shown}`" if (shown := _text(value)) else "", text) for path, value, text in rows],
    )


def commands_page() -> str:
    """The help of every command."""
    parts = ["# Commands\n\nThe text of each command's `--help`. `distcond X` and `python -m distcond.X` are the same."]
    for name in (name for name, command in COMMANDS.items() if command.module.startswith("distcond.")):
        parts.append(f"## distcond {name}\n\n```text\n{_help(f'distcond.{name}')}\n```")
    for module in CLUSTER_COMMANDS:
        parts.append(f"## {module.removesuffix('.__main__')}\n\n```text\n{_help(module)}\n```")
    return "\n\n".join(parts)


def _help(module: str) -> str:
    main: Callable[[Sequence[str]], int] = import_module(module).main
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(["--help"])
    return out.getvalue().strip()


def names_page() -> str:
    """Methods, models, data sets, samplers, attacks and trackers; recipes by paper with cost and expected figures."""
    from distcond.config.listing import TITLES, format_hours
    from distcond.registry import KINDS, table

    parts = ["# Names and recipes\n\nWhat `distcond train --list` shows."]
    for kind in KINDS:
        if kind != "recipe":
            rows = [(f"`{name}`", value.summary) for name, value in table(kind).items()]
            parts.append(f"## {TITLES[kind].partition(' (')[0]}\n\n" + _table(("name", "what"), rows))
    recipes = sorted(table("recipe").values(), key=lambda recipe: (_paper(recipe), recipe.name))
    parts.append(
        "## recipes\n\nGPU hours are training FLOPs over an assumed rate, not a measurement. `distcond train RECIPE "
        "--help` also lists every deviation from the paper."
    )
    for paper in dict.fromkeys(map(_paper, recipes)):
        of_paper = [recipe for recipe in recipes if _paper(recipe) == paper]
        lines = [(f"`{r.name}`", format_hours(r.gpu_hours), r.summary, r.expect) for r in of_paper]
        parts.append(f"### {paper or 'No paper'}\n\n" + _table(("recipe", "cost", "what", "expect"), lines))
    return "\n\n".join(parts)


def _paper(recipe: Any) -> str:
    return f"{recipe.paper.title} ({recipe.paper.venue}, arXiv {recipe.paper.arxiv})" if recipe.paper else ""


def rows_page() -> str:
    """The schema of a result row."""
    import inspect

    from distcond.results.row import CHOICES, COLUMNS, SCHEMA_VERSION, Row

    defaults = {field.name: field.default for field in Row.__dataclass_fields__.values()}
    rows = [
        (
            f"`{name}`",
            kind,
            _default(defaults[name]),
            ", ".join(f"`{choice or '(empty)'}`" for choice in CHOICES.get(name, ())),
        )
        for name, kind in COLUMNS.items()
    ]
    text = inspect.cleandoc(Row.__doc__ or "").partition("\n\nRaises:")[0]
    return (
        f"# Result rows\n\nSchema version {SCHEMA_VERSION}. `RUN/results/*.parquet` (or `.jsonl` without pyarrow) has "
        f"one row per measurement.\n\n{text}\n\n" + _table(("column", "type", "default", "values"), rows)
    )


def _default(value: Any) -> str:
    import dataclasses

    return "required" if value is dataclasses.MISSING else f"`{value}`" if value != "" else ""


def api_page() -> str:
    """The public names of `distcond`, by mkdocstrings."""
    import distcond
    from distcond.api import _MODULES

    names = [name for name in distcond.__all__ if not name.startswith("__")]
    parts = ["# Python API\n\n`import distcond` is quick: every name is imported on first use."]
    return "\n\n".join(parts + [f"::: {_MODULES[name]}.{name}" for name in names])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


PAGES: dict[str, Callable[[], str]] = {
    "settings": settings_page,
    "commands": commands_page,
    "names": names_page,
    "rows": rows_page,
    "api": api_page,
}
