"""The rooms of the code, the arrows between them, and the habits that every file keeps."""

import ast
import functools
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

# An import points from an earlier level to a later one, or stays in its room.
LEVELS = (
    {"experiments"},
    {"configs"},
    {"tl.studies", "tl.advice"},
    {"tl.runs", "tl.sklearn"},
    {"tl.inference"},
    {"tl.train", "tl.features", "tl.probes", "tl.report"},
    {"tl.results"},
    {"tl.data"},
    {"tl.weights"},
    {"tl.models"},
    {"tl.storage"},
    {"tl"},
)
RUNS = next(number for number, rooms in enumerate(LEVELS) if "tl.runs" in rooms)
ROOT = Path(__file__).parents[1]
TEXTS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text()
    for room in ("tl", "experiments", "configs")
    for path in sorted((ROOT / room).rglob("*.py"))
    if path.name != "__init__.py"
}
# Tests of several modules together.
ACROSS = {"api", "architecture", "browser", "configs", "docs", "foreign", "fsdp", "multihost"}
ACROSS |= {"resume"}
ACROSS |= {"gpu_features", "gpu_probes", "gpu_train"}  # what an accelerator computes
ACROSS |= {"weights_golden", "weights_lite0", "weights_peers"}  # networks against other frameworks
ACROSS |= {"object_stores"}
ACROSS |= {"typechecker"}  # of the tests themselves


def imported(module: str) -> set[str]:
    """Returns the modules of ours that a module imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(TEXTS[module])):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(TEXTS)


@functools.cache  # a worker that runs none of these tests need not parse all there is
def imports() -> dict[str, set[str]]:
    """Returns what each module imports."""
    return {module: imported(module) for module in TEXTS}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[0] if parts[0] != "tl" else ".".join(parts[:-1][:2])


def level(module: str) -> int:
    return next(number for number, rooms in enumerate(LEVELS) if room(module) in rooms)


def assert_no_circle(graph: dict[str, set[str]]):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_imports_point_to_lower_rooms():
    assert [
        f"{module} -> {other}"
        for module, others in imports().items()
        for other in sorted(others)
        if room(module) != room(other) and level(module) >= level(other)
    ] == []


def test_no_circle_between_files():
    assert_no_circle(imports())


def test_no_circle_between_folders():
    graph: dict[str, set[str]] = {}
    for module, others in imports().items():
        folder = module.rpartition(".")[0]
        graph.setdefault(folder, set()).update(
            {other.rpartition(".")[0] for other in others} - {folder}
        )
    assert_no_circle(graph)


def test_few_modules_belong_to_no_room():
    assert len([module for module in TEXTS if room(module) == "tl"]) <= 8


def test_only_commands_know_flags():
    assert [
        name for name, text in TEXTS.items() if level(name) > RUNS and "--config." in text
    ] == []


def test_config_dicts_end_where_a_run_or_a_study_is_planned():
    allowed = {"tl.studies.plan", "tl.studies.config"}
    assert [
        module
        for module, text in TEXTS.items()
        if "ConfigDict" in text
        and room(module) not in ("experiments", "configs", "tl.runs")
        and module not in allowed
    ] == []


def test_every_module_has_its_test_file():
    modules = {
        re.sub(r"(?<=\w)\.__main__$", "", module.removeprefix("tl.")).replace(".", "_")
        for module in TEXTS
        if room(module) != "configs"
    }
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    assert sorted(name for name in modules - tested if not name.startswith("experiments")) == []
    assert sorted(tested - modules - ACROSS) == []


def test_docstrings_indent_by_two():
    heading = re.compile(r"^( *)(?:Args|Attributes|Raises|Returns|Yields):\n +(?! )", re.MULTILINE)
    assert [
        f"{module}: {match[0]!r}"
        for module, text in TEXTS.items()
        for match in heading.finditer(text)
        if len(match[0].splitlines()[1]) != len(match[1]) + 2
    ] == []
