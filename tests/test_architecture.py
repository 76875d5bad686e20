"""The layers of promptlab: imports run one way, without cycles, and light verbs stay light."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("src/promptlab", "src/hydra_plugins", "benchmarks", "training")

# From the top floor down; a module may import from its own floor and those below. A room's own
# floors stand between its neighbours': what is named longest decides.
FLOORS = (
    ("",),
    ("cli", "commands", "api", "__main__", "serve.child"),
    ("serve",),
    ("flow",),
    ("tracking",),
    ("report",),
    ("verdicts", "scores"),
    ("store",),
    ("workers",),
    ("planning",),
    ("planning.language",),
    ("engine", "finishing"),
    ("models.http",),
    (
        "models.http.a1111",
        "models.http.comfyui",
        "models.http.openai",
        "models.http.replicate",
        "models.http.model",
    ),
    ("models.http.drawing",),
    ("models.http.asking",),
    ("models.http.client", "models.http.images", "models.http.ledger", "models.http.prices"),
    ("models.http.pace",),
    ("models.http.repeat", "models.http.service"),
    ("models.diffusers",),
    ("models.diffusers.model",),
    ("models.diffusers.painter",),
    ("models.diffusers.loading", "models.diffusers.texts"),
    ("models.diffusers.loras", "models.diffusers.families"),
    ("models.diffusers.files", "models.diffusers.findings"),
    ("models.diffusers.libraries",),
    ("models.dalle",),
    ("models.dalle.model",),
    ("models.dalle.devices",),
    ("models.dalle.cuda", "models.dalle.cpu_runner"),
    ("models.dalle.runner",),
    (
        "models.dalle.blocks",
        "models.dalle.cache",
        "models.dalle.config",
        "models.dalle.decode",
        "models.dalle.detokenizer",
        "models.dalle.encode",
        "models.dalle.lane",
        "models.dalle.min_dalle_files",
        "models.dalle.network",
        "models.dalle.precision",
        "models.dalle.rng",
        "models.dalle.sampling",
        "models.dalle.strip_detokenizer",
        "models.dalle.texts",
        "models.dalle.tokenizer",
        "models.dalle.transfer",
        "models.dalle.upstream",
        "models.dalle.variations",
        "models.dalle.weights",
    ),
    ("models.dalle.cpu",),
    ("models",),
    ("configs",),
    (
        "records",
        "run_record",
        "identity",
        "redaction",
        "paths",
        "atomic",
        "png",
        "machine",
        "errors",
        "exports",
        "extras",
        "progress",
        "version",
    ),
)
HEAVY = ("torch", "mlflow", "pandas", "min_dalle", "datasets", "transformers", "diffusers")


@dataclass(frozen=True)
class Import:
    """One module of ours that imports from another, anywhere in its code."""

    importer: str  # module
    imported: str  # module
    name: str  # what is imported of it

    def __str__(self) -> str:
        modules = own_modules()
        importer, imported = (
            path.relative_to(ROOT).as_posix()
            for path in (modules[self.importer], modules[self.imported])
        )
        return f"{importer} imports {self.name} of {imported}"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def own_modules() -> dict[str, Path]:
    """Return our modules by name; those of promptlab itself have floors."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {module_name(path): path for path in paths}


def promptlab_modules() -> list[str]:
    return [module for module in own_modules() if module.split(".")[0] == "promptlab"]


@cache
def imports_of(module: str) -> tuple[Import, ...]:
    """Return what a module imports of ours: at its top, in functions, for type checkers."""
    found = []
    for node in ast.walk(ast.parse(own_modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = whole in own_modules()
                found.append((whole, alias.name) if is_module else (node.module, alias.name))
    return tuple(
        Import(module, imported, name)
        for imported, name in found
        if imported in own_modules() and imported != module
    )


def floor_of(module: str) -> int:
    """Return the number of a module's floor, 0 at the top."""
    inside = module.removeprefix("promptlab").removeprefix(".")
    while True:
        for number, floor in enumerate(FLOORS):
            if inside in floor:
                return number
        assert "." in inside, f"{module} has no floor: add it to FLOORS"
        inside = inside.rpartition(".")[0]


@pytest.mark.parametrize("module", promptlab_modules())
def test_a_module_imports_from_its_own_floor_and_those_below(module):
    wrong = [
        str(found)
        for found in imports_of(module)
        if found.imported not in promptlab_modules() or floor_of(found.imported) < floor_of(module)
    ]
    assert not wrong, f"{'; '.join(wrong)}: a floor above its own"


def test_no_modules_need_each_other_in_a_circle():
    open_imports: list[Import] = []
    closed: set[str] = set()

    def visit(module: str) -> None:
        for found in imports_of(module):
            open_imports.append(found)
            is_open = found.imported in {each.importer for each in open_imports}
            assert not is_open, "; ".join(map(str, open_imports))
            if found.imported not in closed:
                visit(found.imported)
            open_imports.pop()
        closed.add(module)

    for module in own_modules():
        if module not in closed:
            visit(module)


PACKAGES_WITH_NAMES = [
    module
    for module, path in own_modules().items()
    if path.name == "__init__.py" and "__all__" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("package", PACKAGES_WITH_NAMES)
def test_every_public_name_of_a_package_exists(package):
    room = importlib.import_module(package)
    for name in room.__all__:
        assert not isinstance(getattr(room, name), ModuleType), name
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = room.no_such_name


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "modules",
    [
        "promptlab, promptlab.records, promptlab.identity, promptlab.configs.settings",
        "promptlab.report, promptlab.verdicts.picks, promptlab.store",
        "promptlab.commands.report, promptlab.commands.show, promptlab.commands.pick",
        "promptlab.planning.expand, promptlab.planning.plan, promptlab.planning.language",
        "promptlab.planning.prompts, promptlab.planning.seeds, promptlab.paths",
        "promptlab.cli, promptlab.commands.sweep, promptlab.commands.models",
        "promptlab.commands.score, promptlab.scores.scoring, promptlab.scores.summary",
        "promptlab.scores.measures, promptlab.scores.registry",
        "promptlab.flow.sweep",
        "promptlab.models.registry, promptlab.models.protocol, promptlab.models.dalle",
        "promptlab.models.diffusers, promptlab.models.machine",
        "promptlab.models.http",
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
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr + done.stdout


def test_importing_promptlab_sets_and_creates_nothing(tmp_path):
    code = (
        "import os, random; before = dict(os.environ), random.getstate(); "
        "import promptlab, promptlab.cli, promptlab.flow.sweep; "
        "assert (dict(os.environ), random.getstate()) == before; "
        f"os.chdir({str(tmp_path)!r}); print(os.listdir())"
    )
    assert run_python(code).strip() == "[]"


def test_help_imports_nothing_but_what_it_prints():
    code = (
        "import contextlib, sys; from promptlab.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        f"print([m for m in {(*HEAVY, 'hydra', 'numpy', 'pyarrow', 'PIL')!r} if m in sys.modules])"
    )
    assert run_python(code).splitlines()[-1] == "[]"
