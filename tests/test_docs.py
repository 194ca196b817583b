"""What the pages say is there: links, commands, flags, fields, files and modules."""

import dataclasses
import re
from pathlib import Path

import pytest

from configs import common
from experiments.benchmark.options import Options
from tl.fields import flat
from tl.runs.cli import CLUSTER_FLAGS, RUN_FLAGS
from tl.studies.config import study

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
CONFIGS = sorted((ROOT / "configs").glob("[!_]*.py"))
NAMES = {path: path.relative_to(ROOT).as_posix() for path in [*PAGES, *CONFIGS]}

FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# A command up to the end of its last line, of which all but the last end with a backslash.
COMMAND = re.compile(r"python -m experiments\.(\w+)((?:\\\n|[^\n`])*)")
FIELD = re.compile(r"--config\.([\w.]*\w)")
FLAG = re.compile(r"(?<!\S)\[?--(?!config\b)([a-z_]+)")
FILE = re.compile(r"(?<![\w./-])((?:tl|experiments|configs|tests|docs)/[\w.*/<>-]*[\w>])")
SECTIONS = tuple(name for name, value in common.get_config().items() if hasattr(value, "items"))
SECTION_FIELD = re.compile(rf"`((?:{'|'.join(SECTIONS)})\.\w+)[=`]")
ACCURACY = re.compile(r"(?<![\d.:/])\d{2}\.\d\d?(?![\d.])")
DEFINED = re.compile(r'DEFINE_\w+\(\s*"(\w+)"')


def anchors(page):
    """Returns the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page):
    found = []
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"\w+:", target):  # another site
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            found.append(target)
    return found


def known_fields():
    base = common.get_config()
    whole = study("", base, {"endpoint": ("stem",), "method": {}}, columns="endpoint")
    return {*flat(base), *flat(whole), *(f"base.{name}" for name in flat(base))}


def unknown_fields(text):
    known = known_fields()
    named = {*FIELD.findall(text), *SECTION_FIELD.findall(text)}
    named -= {"FIELD", "base.FIELD"}
    return sorted(
        name
        for name in named
        # Any axis may be given levels: `--config.axes.seed=(0,1)`.
        if name not in known and not re.fullmatch(r"axes\.\w+", name)
    )


def known_flags(command):
    file = ROOT / "experiments" / f"{command}.py"
    source = (file if file.exists() else file.with_suffix("") / "__main__.py").read_text()
    flags = {*DEFINED.findall(source), *(RUN_FLAGS if "define_run_flags" in source else ())}
    if "define_run_flags" in source or "define_cluster_flags" in source:
        flags |= set(CLUSTER_FLAGS)
    if command == "benchmark":
        flags |= {field.name for field in dataclasses.fields(Options)}
    return flags


def wrong_commands(text):
    found = []
    for command, arguments in COMMAND.findall(text):
        file = ROOT / "experiments" / f"{command}.py"
        if not file.exists() and not file.with_suffix("").is_dir():
            found.append(command)
            continue
        arguments = arguments.partition("#")[0]
        unknown = {*FLAG.findall(arguments)} - known_flags(command) - {"help"}
        found += [f"{command} --{flag}" for flag in sorted(unknown)]
    return found


def missing_files(text):
    files = [file for file in FILE.findall(text) if "<" not in file]
    return [file for file in files if not any(ROOT.glob(file))]


@pytest.mark.parametrize("page", PAGES, ids=NAMES.get)
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


@pytest.mark.parametrize("page", [*PAGES, *CONFIGS], ids=NAMES.get)
def test_fields_are_those_of_a_config(page):
    assert unknown_fields(page.read_text()) == []


@pytest.mark.parametrize("page", [*PAGES, *CONFIGS], ids=NAMES.get)
def test_commands_and_their_flags_exist(page):
    assert wrong_commands(page.read_text()) == []


@pytest.mark.parametrize("page", [*PAGES, *CONFIGS], ids=NAMES.get)
def test_files_exist(page):
    assert missing_files(page.read_text()) == []


def test_every_page_is_in_the_index():
    text = (ROOT / "docs" / "README.md").read_text()
    linked = {(ROOT / "docs" / target).resolve() for target in LINK.findall(text)}
    # How to add one thing is linked from the page that says how to add anything.
    text = (ROOT / "docs" / "adding.md").read_text()
    linked |= {
        (ROOT / "docs" / target.partition("#")[0]).resolve() for target in LINK.findall(text)
    }
    pages = {path.resolve() for path in (ROOT / "docs").glob("*.md")}
    assert pages - linked - {(ROOT / "docs" / "README.md").resolve()} == set()


def test_every_command_has_a_guide():
    commands = {path.stem for path in (ROOT / "experiments").iterdir() if path.stem[0] != "_"}
    assert {name for name in commands if not (ROOT / "docs" / f"{name}.md").exists()} == set()
    assert commands == set(re.findall(r"^\| \[`(\w+)`\]", README.read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", [README, *CONFIGS], ids=NAMES.get)
def test_accuracies_are_those_of_the_page_of_measurements(page):
    text = page.read_text()
    text = text if page == README else text.split('"""')[1]
    measured = set(ACCURACY.findall((ROOT / "docs" / "measurements.md").read_text()))
    assert set(ACCURACY.findall(text)) - measured == set()


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) < 150


def test_make_targets_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:^|`)make ([a-z]\w*)", page.read_text(), re.MULTILINE))
        assert named <= targets, page


class TestTheChecks:
    """Each check finds what it is for."""

    def test_links(self, tmp_path):
        page = tmp_path / "page.md"
        page.write_text(
            "# A Heading, `so`\n[a](page.md#a-heading-so) [b](#b) [c](c.md) [d](https://d)"
        )
        assert broken_links(page) == ["#b", "c.md"]

    def test_fields(self):
        text = (
            "--config.train.epochs=1 --config.train.epoch=1 `optim.rate` `optim.name=adam` "
            "--config.base.seeds=0 --config.axes.seed='(0,)' --config.only=x --config.other"
        )
        assert unknown_fields(text) == ["optim.rate", "other", "train.epoch"]

    def test_commands(self):
        text = (
            "python -m experiments.advise --images=3 --json=x\n"
            "`python -m experiments.compare A B --json=x` --workdir=y\n"
            "python -m experiments.benchmark --sizes=3 --size=3\n"
            "python -m experiments.gpu --out=x --into=x\n"
            "python -m experiments.nothing --workdir=x"
        )
        assert wrong_commands(text) == [
            "advise --json",
            "benchmark --size",
            "gpu --into",
            "nothing",
        ]

    def test_continued_commands(self):
        text = (
            "python -m experiments.probe --config=x \\\n    --config.seeds=0 --speed=3\n--other=4"
        )
        assert wrong_commands(text) == ["probe --speed"]

    def test_files(self):
        text = (
            "`tl/errors.py`, tl/models/cpu/, configs/study_*.py; tl/<name>.py; tl/nothing.py, "
            "my/tl/x.py."
        )
        assert missing_files(text) == ["tl/nothing.py"]
