"""The import rules of the layout, and the sizes that keep it readable."""

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

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
    "nlirg": "weighting config chat corpus models forward training scoring monitoring preflight",
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
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    """Root names of everything a module imports."""
    nodes = tree_of(path).body if top_level_only else ast.walk(tree_of(path))
    roots = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            roots.add(node.module.split(".")[0])
    return roots


def modules_imported(path: Path) -> set[str]:
    """Project modules that a module imports, at the top or inside a function."""
    modules = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = ROOT.joinpath(*full.split(".")).with_suffix(".py").exists()
                modules.add(full if is_module else node.module)
    return {name for name in modules if name.split(".")[0] in FOLDERS}


def test_imports_go_one_way() -> None:
    offenders = []
    for path in SOURCES:
        name, names = name_of(path), imported(path)
        allowed = MAY_IMPORT[name.split("/")[0]]
        offenders += [f"{name}: {other}" for other in names & set(FOLDERS) - allowed]
    assert offenders == []


def test_heavy_libraries_have_one_home_each() -> None:
    offenders = []
    for path in SOURCES:
        name, names = name_of(path), imported(path)
        offenders += [f"{name}: {lib}" for lib in HEAVY if lib in names and name not in HEAVY[lib]]
        if not name.startswith("pipelines/") and name not in RAY_OUTSIDE_PIPELINES:
            offenders += [f"{name}: ray"] if "ray" in names else []
        at_top = imported(path, top_level_only=True) & {"ray", *HEAVY}
        offenders += [
            f"{name}: {lib} at the top" for lib in at_top if name not in HEAVY.get(lib, ())
        ]
    assert offenders == []


def test_no_module_imports_itself_through_others() -> None:
    graph = {module_of(path): modules_imported(path) - {module_of(path)} for path in SOURCES}
    list(TopologicalSorter(graph).static_order())  # CycleError names the circle


def test_folders_import_one_way() -> None:
    offenders = []
    for path in SOURCES:
        package, *below = path.relative_to(ROOT).parts
        layers = LAYERS.get(package, "").split()
        if len(below) < 2 or below[0] not in layers:
            continue
        later = layers[layers.index(below[0]) + 1 :]
        for name in modules_imported(path):
            top, *rest = name.split(".")
            if top == package and rest and rest[0] in later:
                offenders.append(f"{name_of(path)}: {name}")
    assert offenders == []


def test_a_folder_holds_one_subject() -> None:
    sizes = Counter(name_of(path.parent) for path in SOURCES if path.name != "__init__.py")
    assert [name for name, files in sizes.items() if files > 14] == [], "really two subjects?"


def test_modules_load_without_ray_vllm_or_deepspeed() -> None:
    """All in one interpreter, one after another, so that the first that loads one is named."""
    homes = set.union(*HEAVY.values())
    paths = [path for path in SOURCES if path.name != "__main__.py" and name_of(path) not in homes]
    code = (
        "import importlib, sys\n"
        f"for module in {[module_of(path) for path in paths]}:\n"
        "    importlib.import_module(module)\n"
        "    heavy = [name for name in ('ray', 'vllm', 'deepspeed') if name in sys.modules]\n"
        "    if heavy: sys.exit(f'{module} loads {heavy}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_files_and_functions_stay_readable() -> None:
    offenders = []
    for path in SOURCES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        offenders += [f"{name_of(path)}: {lines} lines"] if lines >= 400 else []
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 50:
                offenders.append(f"{name_of(path)}: {node.name}")
    assert offenders == []


def test_nothing_trusts_remote_code_or_unpickles() -> None:
    offenders = []
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        words = {"trust_remote_code=True", "weights_only=False"}
        offenders += [f"{name_of(path)}: {word}" for word in words if word in text]
        unpickle = imported(path) & {"pickle", "cloudpickle", "dill"}
        offenders += [f"{name_of(path)}: {library}" for library in unpickle]
    assert offenders == []


def test_the_product_replaces_nothing_by_mocks() -> None:
    assert not [name_of(path) for path in SOURCES if "unittest" in imported(path)]


def test_no_two_public_classes_have_one_name() -> None:
    classes = Counter(
        node.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert not {name for name, count in classes.items() if count > 1}


def test_top_level_holds_only_what_the_layout_names() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout.split("\n")
    top = {line.split("/")[0] for line in tracked if line}
    visible = {name for name in top if not name.startswith(".")}
    assert visible == {*FOLDERS, "tests", "pyproject.toml", "README.md", "Makefile", "LICENSE"}
