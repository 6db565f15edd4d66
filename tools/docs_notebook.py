"""Hook of mkdocs.yml: docs/*.ipynb as pages, with the outputs they were committed with; nothing is executed."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

#: Kinds of output, the first of which a page shows.
KINDS = ("image/png", "text/plain")


def on_config(config: Any) -> Any:
    """List every notebook after the tutorial."""
    at = next(number for number, entry in enumerate(config.nav) if "Tutorial" in entry)
    for file in sorted(Path(config.docs_dir).glob("*.ipynb"), reverse=True):
        config.nav.insert(at + 1, {f"Notebook: {file.stem}": f"{file.stem}.md"})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add a page and its images for every notebook."""
    for file in sorted(Path(config.docs_dir).glob("*.ipynb")):
        images: dict[str, bytes] = {}
        cells = json.loads(file.read_text())["cells"]
        text = "\n\n".join(_cell_text(cell, f"{file.stem}_{number}", images) for number, cell in enumerate(cells))
        download = f"\n\n[Download this notebook]({file.name}).\n"
        files.append(File.generated(config, f"{file.stem}.md", content=text + download))
        for name, content in images.items():
            files.append(File.generated(config, name, content=content))
    return files


def _cell_text(cell: dict[str, Any], name: str, images: dict[str, bytes]) -> str:
    """A cell as Markdown; its images are added to `images` by file name."""
    source = "".join(cell["source"])
    if cell["cell_type"] != "code":
        return source
    outputs = [_output_text(output, f"{name}_{number}.png", images) for number, output in enumerate(cell["outputs"])]
    return "\n\n".join([f"```python\n{source}\n```", *filter(None, outputs)])


def _output_text(output: dict[str, Any], image: str, images: dict[str, bytes]) -> str:
    data = {"text/plain": output["text"]} if "text" in output else output.get("data", {})
    kind = next((kind for kind in KINDS if kind in data), "")
    if kind == "image/png":
        images[image] = base64.b64decode("".join(data[kind]))
        return f"![output]({image})"
    return f"```text\n{''.join(data[kind]).rstrip()}\n```" if kind else ""
