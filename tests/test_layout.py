"""The plan of the house: what imports what, and who owns which fact.

docs/design.md has the plan in words.
"""

import ast
import collections
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {  # of the checkout -> where they are installed
    "edcn_tf": "edcn_tf",
    "export": "edcn_tf.export",
    "tuning": "edcn_tf.tuning",
    "benchmarks": "edcn_tf.benchmarks",
}
MOST_MODULES = 16  # of a folder, so that its listing is read at a glance
# From the bottom up: a room imports from those below it and from itself. Rooms of one
# line do not know each other.
ORDER = [
    {"version", "choices", "errors", "tensors"},
    {"files", "checks", "console"},
    {"directories", "dialect", "field", "framing"},
    {"schema"},
    {"logs"},
    {"features", "layers"},
    {"models"},
    {"config"},
    {"records"},
    {"preparation", "evaluation"},
    {"export", "training", "datasets"},
    {"report"},
    {"tuning", "demo", "drift"},
    {"benchmarks"},
]
HEIGHT = {room: height for height, rooms in enumerate(ORDER) for room in rooms}
# Files that TensorFlow's or another library's process runs by their path.
PROGRAMS = ("export/verification.py", "benchmarks/*/with_*.py")


@functools.cache
def modules():
    """Name of each module of the library -> its file."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join([package, *parts]).removesuffix(".__init__")
            found[name.replace("edcn_tf.cli", "edcn")] = path
    return found


def imports_of(name):
    """The modules of the library that a module imports, anywhere in it."""
    path, found = modules()[name], set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".")
            if path.name != "__init__.py":
                package = package[:-1]
            package = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*package, *([node.module] if node.module else [])])
            for alias in node.names:
                part = f"{source}.{alias.name}"
                found.add(part if part in modules() else source)
    return (found & set(modules())) - {name}


@functools.cache
def arrows():
    """Module -> those that it imports."""
    return {name: imports_of(name) for name in modules()}


def room_of(name):
    """The folder, or file, right below `edcn_tf` that a module is in."""
    return name.split(".")[1] if name.startswith("edcn_tf.") else name


def test_every_room_has_its_place():
    rooms = {room_of(name) for name in modules() if name.startswith("edcn_tf.")}
    assert rooms == set(HEIGHT)


@pytest.mark.parametrize("name", sorted(set(modules()) - {"edcn_tf"}))
def test_nothing_is_imported_from_above(name):
    room = room_of(name)
    if room == "edcn" or name.startswith("edcn."):
        return  # the command line is above all; what it may import, others say
    for other in arrows()[name] - {"edcn_tf"}:
        assert not other.startswith("edcn.") and other != "edcn", f"{name} <- {other}"
        below = room_of(other)
        assert below == room or HEIGHT[below] < HEIGHT[room], f"{name} <- {other}"


def test_only_programs_and_the_top_import_the_package_as_a_whole():
    whole = {name for name in arrows() if "edcn_tf" in arrows()[name]}
    assert {room_of(name).split(".")[0] for name in whole} <= {"benchmarks", "edcn"}


def test_no_module_imports_itself_by_way_of_others():
    state = {}

    def follow(name, way):
        if state.get(name) == "done":
            return
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        for other in sorted(arrows()[name]):
            follow(other, [*way, name])
        state[name] = "done"

    for name in modules():
        follow(name, [])


def test_no_folder_has_too_many_modules():
    sizes = collections.Counter(
        path.parent.relative_to(ROOT)
        for path in modules().values()
        if path.name != "__init__.py"
    )
    assert {str(path): n for path, n in sizes.items() if n > MOST_MODULES} == {}


def test_every_folder_says_in_a_line_what_it_is():
    for folder in {path.parent for path in modules().values()}:
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text)), folder


@pytest.mark.parametrize("folder", ["export", "tuning", "benchmarks"])
def test_siblings_of_the_folders_at_the_top_are_imported_relatively(folder):
    for path in (ROOT / folder).rglob("*.py"):
        if any(path.match(program) for program in PROGRAMS):
            continue
        text = path.read_text(encoding="utf-8")
        own = re.findall(rf"^\s*(?:from|import) edcn_tf\.{folder}\b.*$", text, re.M)
        assert own == [], path


@functools.cache
def strings_of(path):
    """The strings of a file that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docs
    ]


# A name in a directory -> the one module that spells it, and those whose own directory
# has a file of that name, or whose text for people names it.
OWNED = {
    "config.yaml": {"edcn_tf.directories"},
    "model.keras": {"edcn_tf.directories"},
    "summary.json": {"edcn_tf.directories"},
    "statistics.json": {"edcn_tf.directories"},
    "calibration.json": {"edcn_tf.directories"},
    "sample.tfrecord": {"edcn_tf.directories"},
    "warm_start.json": {"edcn_tf.directories"},
    "history.csv": {"edcn_tf.directories"},
    "result.json": {"edcn_tf.directories", "edcn_tf.tuning.tuner"},  # of a trial
    "-*.tfrecord": {"edcn_tf.directories"},
    "-*.ids": {"edcn_tf.directories"},
    "checksums.json": {"edcn_tf.directories"},
}


@pytest.mark.parametrize("file", OWNED)
def test_a_file_of_a_directory_is_named_in_one_place(file):
    name = re.compile(
        rf"(^|/){re.escape(file)}$" if "*" not in file else re.escape(file)
    )
    spelled = {
        module
        for module, path in modules().items()
        if not any(path.match(program) for program in PROGRAMS)
        and any(name.search(text) for text in strings_of(path))
    }
    assert spelled <= OWNED[file]


CONSTANTS = (
    *("FORMATS", "SPLITS", "SPLIT_BY", "STRATEGIES", "OBJECTIVES"),
    *("ARROW_TYPES", "BATCH_ROWS"),
)


@pytest.mark.parametrize("constant", CONSTANTS)
def test_a_constant_is_written_once(constant):
    """The command line has names for what it reads of `edcn_tf/choices.py`."""
    found = [
        module
        for module, path in modules().items()
        if not module.startswith("edcn.")
        and not any(path.match(program) for program in PROGRAMS)
        and re.search(rf"^{constant}\b.* = ", path.read_text(encoding="utf-8"), re.M)
    ]
    assert len(found) == 1


def test_no_call_hides_its_arguments_in_a_tuple():
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                for argument in node.args:
                    literal = isinstance(argument, ast.Starred) and isinstance(
                        argument.value, (ast.Tuple, ast.List)
                    )
                    assert not literal, f"{path}:{node.lineno}"


DESIGN = ROOT / "docs" / "design.md"


def test_each_module_and_file_that_the_design_names_is_there():
    text = DESIGN.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[\w*]+/)+(?:[\w*.]+\.\w+)?)`", text))
    assert len(named) > 40
    missing = sorted(name for name in named if not list(ROOT.glob(name.rstrip("/"))))
    assert missing == []


def test_the_design_has_each_room():
    text = DESIGN.read_text(encoding="utf-8")
    for room in HEIGHT:
        if room in FOLDERS:
            assert f"`{room}/`" in text, room
        elif (ROOT / "edcn_tf" / room / "__init__.py").exists():
            assert f"`edcn_tf/{room}/`" in text, room
        else:
            assert f"`edcn_tf/{room}.py`" in text, room


def test_tests_mirror_the_library():
    rooms = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    folders = {path.name for path in (ROOT / "edcn_tf").iterdir() if path.is_dir()}
    folders |= set(FOLDERS) - {"edcn_tf"}
    assert rooms - {"__pycache__", "data", "helpers"} <= folders
