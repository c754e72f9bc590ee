"""The import rules of the layout, and the sizes that keep it readable."""

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("nlirg", "eval", "cluster", "pipelines")
MAY_IMPORT = {
    "nlirg": {"nlirg"},
    "eval": {"eval", "nlirg"},
    "cluster": {"cluster", "nlirg"},
    "pipelines": set(FOLDERS),
}
# The folders below a package, each importing only those before it.
LAYERS = {
    "nlirg": "weighting config corpus models forward training scoring monitoring preflight",
    "eval": "schema statistics checkers generation cases metrics judge harness verdict report",
}
# Heavy libraries and the only modules that may import them, at the top or inside a function.
HEAVY = {
    "deepspeed": {"nlirg/training/deepspeed_engine.py"},
    "vllm": {"eval/generation/vllm_engine.py"},
}
RAY_OUTSIDE_PIPELINES = {
    "eval/generation/actors.py",
    "cluster/session.py",
    "cluster/plan.py",
    "cluster/submit.py",
}
# Names of more than one public class that are still to be told apart; none may be added.
SHARED_CLASS_NAMES = {"Alarm", "Answer", "Piece", "Sample", "Turn"}
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in SOURCES]


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    """Root names of everything a module imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_imports_go_one_way(name: str) -> None:
    names = imported(ROOT / name)
    folder = name.split("/")[0]
    assert names & set(FOLDERS) <= MAY_IMPORT[folder]
    for library, homes in HEAVY.items():
        assert library not in names or name in homes, f"{library} belongs in {homes}"
    if folder != "pipelines":
        assert "ray" not in names or name in RAY_OUTSIDE_PIPELINES


def modules_imported(path: Path) -> set[str]:
    """Project modules that a module imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = ROOT.joinpath(*full.split(".")).with_suffix(".py").exists()
                found.add(full if is_module else node.module)
    return {name for name in found if name.split(".")[0] in FOLDERS}


def test_no_module_imports_itself_through_others() -> None:
    graph = {}
    for path in SOURCES:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = modules_imported(path) - {name}
    list(TopologicalSorter(graph).static_order())  # CycleError names the circle


def test_folders_import_one_way() -> None:
    for path in SOURCES:
        package, *below = path.relative_to(ROOT).parts
        layers = LAYERS.get(package, "").split()
        if len(below) < 2 or below[0] not in layers:
            continue
        allowed = layers[: layers.index(below[0]) + 1]
        for name in modules_imported(path):
            top, *rest = name.split(".")
            if top == package and rest and rest[0] in layers:
                assert rest[0] in allowed, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES}))
def test_a_folder_holds_one_subject(folder: Path) -> None:
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= 14, "which of them is really two subjects?"


@pytest.mark.parametrize("name", NAMES)
def test_heavy_libraries_are_not_imported_at_the_top(name: str) -> None:
    heavy = imported(ROOT / name, top_level_only=True) & {"ray", "vllm", "deepspeed"}
    assert all(name in HEAVY.get(library, ()) for library in heavy)


@pytest.mark.parametrize(
    "module",
    [
        "nlirg.weighting.weightings",
        "nlirg.forward.loss",
        "nlirg.forward.windows",
        "nlirg.scoring.scores",
        "nlirg.training.trainer",
        "eval.metrics.diversity",
        "eval.statistics.inference",
        "eval.verdict.compare",
        "eval.report",
        "pipelines.recipe",
        "pipelines.cli",
    ],
)
def test_pure_modules_load_without_ray_vllm_or_deepspeed(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "print([n for n in ('ray', 'vllm', 'deepspeed') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("[]")


@pytest.mark.parametrize("name", NAMES)
def test_files_and_functions_stay_readable(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 50, f"{name}: {node.name}"


def test_nothing_trusts_remote_code_or_unpickles() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert "trust_remote_code=True" not in text
        assert "weights_only=False" not in text
        assert not imported(path) & {"pickle", "cloudpickle", "dill"}


def test_the_product_replaces_nothing_by_mocks() -> None:
    assert not [name for name in NAMES if "unittest" in imported(ROOT / name)]


def test_no_two_public_classes_have_one_name() -> None:
    classes = Counter(
        node.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, count in classes.items() if count > 1} == SHARED_CLASS_NAMES


def test_top_level_holds_only_what_the_layout_names() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout.split("\n")
    top = {line.split("/")[0] for line in tracked if line}
    visible = {name for name in top if not name.startswith(".")}
    assert visible == {*FOLDERS, "tests", "pyproject.toml", "README.md", "Makefile", "LICENSE"}
