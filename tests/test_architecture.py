"""The layers of promptlab: imports run one way, without cycles, and light verbs stay light."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "promptlab"

# From entry points down to leaves. A module may import its own layer and those below.
LAYERS = (
    ("cli", "commands", "launcher", "compose"),
    ("sweep",),
    ("summary", "lineage", "runs", "provenance"),
    ("report", "tracking", "picks"),
    ("store",),
    ("engine", "expand", "explain", "overrides"),
    ("redraw", "prompts", "plan", "models", "vocabulary"),
    ("language", "config", "seeds", "progress"),
    ("records", "identity", "paths", "errors", "locations", "__init__"),
)
HEAVY = ("torch", "mlflow", "pandas", "min_dalle", "datasets", "transformers")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports_of(path: Path, top_level_only: bool = False) -> frozenset[str]:
    """Return the promptlab modules that a file imports, those for type checkers left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes: list[ast.AST] = list(ast.iter_child_nodes(tree)) if top_level_only else list(walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names
            if not names <= own_modules().keys():  # more than modules of a package
                found.add(node.module)
    return frozenset(found)


def walk(node: ast.AST):
    """Yield all nodes but those under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from walk(child)


@cache
def own_modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def layer_of(module: str) -> int:
    top = module.split(".")[1] if "." in module else "__init__"
    for number, layer in enumerate(LAYERS):
        if top in layer:
            return number
    raise AssertionError(f"{module} has no layer: add it to LAYERS")


@pytest.mark.parametrize("module", own_modules())
def test_a_module_imports_its_own_layer_and_those_below(module):
    for imported in imports_of(own_modules()[module]):
        if imported in own_modules() and imported != "promptlab":
            assert layer_of(imported) >= layer_of(module), f"{module} imports {imported}"


def test_no_two_modules_need_each_other():
    modules = own_modules()
    graph = {
        name: {i for i in imports_of(path, top_level_only=True) if i in modules and i != name}
        for name, path in modules.items()
    }
    open_names: list[str] = []
    closed: set[str] = set()

    def visit(name: str) -> None:
        assert name not in open_names, " → ".join([*open_names, name])
        if name not in closed:
            open_names.append(name)
            for other in graph[name]:
                visit(other)
            closed.add(open_names.pop())

    for name in graph:
        visit(name)


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "modules",
    [
        "promptlab, promptlab.records, promptlab.identity, promptlab.paths, promptlab.config",
        "promptlab.report, promptlab.picks, promptlab.store",
        "promptlab.commands.report, promptlab.commands.show, promptlab.commands.pick",
        "promptlab.expand, promptlab.plan, promptlab.prompts, promptlab.seeds, promptlab.language",
        "promptlab.cli, promptlab.commands.sweep, promptlab.commands.models",
        "promptlab.sweep",
        "promptlab.models.registry, promptlab.models.protocol, promptlab.models.dalle",
        "hydra_plugins.promptlab_launcher",
    ],
)
def test_importing_it_imports_nothing_heavy(modules):
    code = f"import sys, {modules}; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert run_python(code).strip() == "[]"


def test_a_plan_is_made_without_torch_or_mlflow(project):
    code = (
        "import sys; from promptlab.cli import main; "
        "code = main(['sweep', '-m', 'model=paint', 'subject=a,b', 'seeds=2', '--plan']); "
        f"print(code, [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr + done.stdout


def test_importing_promptlab_sets_and_creates_nothing(tmp_path):
    code = (
        "import os, random; before = dict(os.environ), random.getstate(); "
        "import promptlab, promptlab.cli, promptlab.sweep; "
        "assert (dict(os.environ), random.getstate()) == before; "
        f"os.chdir({str(tmp_path)!r}); print(os.listdir())"
    )
    assert run_python(code).strip() == "[]"


def test_help_comes_at_once():
    bare, helps = [], []
    for _ in range(5):
        start = time.perf_counter()
        run_python("pass")
        bare.append(time.perf_counter() - start)
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "promptlab.cli", "--help"], capture_output=True, check=True
        )
        helps.append(time.perf_counter() - start)
    assert min(helps) < 10 * min(bare)  # importing torch takes a hundred of these
