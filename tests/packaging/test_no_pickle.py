"""Nothing from a network or a run directory is unpickled: the source contains no call that could."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("distcond", "cluster", "tools", "tune_spaces", "benchmarks")

PICKLING = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}

#: Files that may import pickle, and the names they may use.
ALLOWED = {
    # With a find_class that only makes arrays of integers.
    "distcond/data/readers/cifar_pickles.py": {"_Unpickler"},
    # Raised by torch.load(weights_only=True).
    "distcond/init_from/weights_file.py": {"UnpicklingError"},
}

#: Collectives and readers that unpickle what they receive.
FORBIDDEN = {
    "all_gather_object", "gather_object", "broadcast_object_list", "scatter_object_list", "send_object_list",
    "recv_object_list", "read_pickle", "add_safe_globals", "unsafe_globals",
}  # fmt: skip


def find_unpickling(code: str, may_use: set[str]) -> Iterator[str]:
    """The parts of `code` that could unpickle."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            imported = PICKLING & {name.split(".")[0] for name in names}
            if imported and (not may_use or isinstance(node, ast.ImportFrom)):
                yield f"line {node.lineno}: imports {imported}"
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr in FORBIDDEN or (owner in PICKLING and node.attr not in may_use):
                yield f"line {node.lineno}: {owner}.{node.attr}"
        if isinstance(node, ast.Call):
            yield from _unpickling_call(node)


def _unpickling_call(node: ast.Call) -> Iterator[str]:
    name, options = ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in ("eval", "exec"):
        yield f"line {node.lineno}: {name}"
    if name == "torch.load" and options.get("weights_only") != "True":
        yield f"line {node.lineno}: torch.load without weights_only=True"
    if name.endswith("load") and options.get("allow_pickle", "False") != "False":
        yield f"line {node.lineno}: {name} with allow_pickle"


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from cloudpickle import loads", "import torch\ntorch.load(path)", "eval(text)",
        "torch.load(path, weights_only=False)", "np.load(path, allow_pickle=True)", "dist.all_gather_object(a, b)",
        "np.load(path, allow_pickle=flag)", "pandas.read_pickle(path)",
    ],
)  # fmt: skip
def test_unpickling_calls_are_found(code: str) -> None:
    assert list(find_unpickling(code, set()))


def test_allowed_names_allow_no_others() -> None:
    assert list(find_unpickling("import pickle\npickle.loads(b'')", {"UnpicklingError"})) == ["line 2: pickle.loads"]
    assert not list(find_unpickling("import pickle\npickle.UnpicklingError", {"UnpicklingError"}))


def test_nothing_is_unpickled() -> None:
    files = [path for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 200
    found = []
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        found += [f"{name}: {line}" for line in find_unpickling(path.read_text(), ALLOWED.get(name, set()))]
    assert found == []
