import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
from packaging.requirements import Requirement

from experiments.gpu import pack
from tl.errors import UserError

TARGET = pack.Target("3.12", "x86_64")
# What is installed here: name to version and requirements.
INSTALLED = {
    "one": ("1.0", ["two>=2", "old; python_version < '3.12'", "extra; extra == 'more'"]),
    "two": ("2.5", ["one", "three"]),
    "three": ("3.0", ["absent[all]<9,>=8; platform_machine == 'x86_64'"]),
    "extra": ("0.1", None),
    "old": ("0.2", None),
    "promise": ("2.3", None),
}
PROJECT = """
[project]
requires-python = ">=3.11"
dependencies = ["one[more]", "promise"]
[project.optional-dependencies]
gpu = []
test = ["ruff==0.1"]
"""


@pytest.fixture
def installed(monkeypatch):
    class Distribution:
        def __init__(self, name):
            if name not in INSTALLED:
                raise importlib.metadata.PackageNotFoundError(name)
            self.version, self.requires = INSTALLED[name]

    monkeypatch.setattr(importlib.metadata, "distribution", Distribution)


def missing(*roots, **have):
    return pack.missing(map(Requirement, roots), TARGET, have)


def test_everything_comes_where_nothing_is_there(installed):
    pins, others = missing("one", "ruff")
    assert pins == {"one": "1.0", "three": "3.0", "two": "2.5"}
    assert others == ["absent[all]<9,>=8"]


def test_extras_are_followed(installed):
    assert missing("one", "one[more]", two="")[0] == {"extra": "0.1", "one": "1.0"}


def test_what_is_there_is_left_out_with_what_it_requires(installed):
    assert missing("one", two="2.0") == ({"one": "1.0"}, [])
    assert missing("One", one="") == ({}, [])


def test_another_version_than_tl_needs_is_brought(installed):
    assert missing("one", two="1.9", three="") == ({"one": "1.0", "two": "2.5"}, [])


def test_markers_are_those_of_the_other_machine(installed):
    arm = pack.Target("3.11", "aarch64")
    pins, others = pack.missing([Requirement("one")], arm, {})
    assert pins["old"] == "0.2" and others == []


def test_have_is_a_list_of_pip_or_of_names(tmp_path):
    file = tmp_path / "have"
    file.write_text("JAX_cuda==0.11.2\n\ntorch==2.11.0+cu130  # local\nnumpy\nx @ file:///x\n")
    assert pack.read_have(file) == {
        "jax-cuda": "0.11.2", "torch": "2.11.0+cu130", "numpy": "", "x": ""
    }  # fmt: skip


def test_a_line_that_names_no_package(tmp_path):
    file = tmp_path / "have"
    file.write_text("numpy\nPackage Version\n")
    with pytest.raises(UserError, match=r"have, line 2: expected a package such as .*'Package Ver"):
        pack.read_have(file)


@pytest.fixture
def source(tmp_path, installed, monkeypatch):
    """A checkout of git, whose commands of pip are listed instead of run; each makes a wheel."""
    root = tmp_path / "source"
    (root / "tl").mkdir(parents=True)
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "tl" / "code.py").write_text("code")
    (root / "untracked").touch()
    subprocess.run(["git", "init", "-q", root], check=True)
    subprocess.run(["git", "-C", root, "add", "pyproject.toml", "tl"], check=True)
    monkeypatch.setattr(pack, "ROOT", root)
    calls = []

    def pip(command, **options):
        if command[:3] != [sys.executable, "-m", "pip"]:
            return run(command, **options)
        calls.append(command[3:])
        (folder,) = (a.partition("=")[2] for a in command if a.startswith(("--dest", "--wheel-d")))
        name = command[-1].partition("=")[0].partition("[")[0]
        (pathlib.Path(folder) / f"{name}-1-py3-none-any.whl").write_bytes(b"-" * 100_000)
        return subprocess.CompletedProcess(command, 0, None, "")

    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", pip)
    return calls


def test_a_folder_holds_source_wheels_and_script(source, tmp_path):
    lines = []
    pack.pack(tmp_path / "to", TARGET, {}, lines.append)
    found = {p.relative_to(tmp_path / "to").as_posix() for p in (tmp_path / "to").rglob("*.*")}
    wheels = {f"wheels/{name}-1-py3-none-any.whl" for name in ("promise", "two", "absent")}
    assert found == {"pyproject.toml", "tl/code.py", "run.sh", *wheels}
    build, exact, others = source
    assert build[:2] == ["wheel", "--no-deps"] and build[3:] == ["promise==2.3"]
    assert {"--only-binary=:all:", "--python-version=3.12", "--no-deps"} < set(exact)
    assert "--platform=manylinux_2_28_x86_64" in exact and "--platform=any" in exact
    assert exact[-4:] == ["extra==0.1", "one==1.0", "three==3.0", "two==2.5"]
    assert "--no-deps" not in others and others[-1] == "absent[all]<9,>=8"
    assert lines[0] == "fetching 6 packages"
    assert lines[1].endswith("to: 2 files of tl, 0.0 MB")
    assert lines[2].endswith("wheels: 3 wheels, 0.3 MB") and lines[-1] == "there: sh to/run.sh OUT"


def test_nothing_is_fetched_where_everything_is_there(source, tmp_path):
    pack.pack(tmp_path / "to", TARGET, {"one": "", "promise": ""})
    assert source == [] and list((tmp_path / "to" / "wheels").iterdir()) == []


def test_pip_that_fails_leaves_no_folder(source, tmp_path, monkeypatch):
    run = subprocess.run

    def failing(command, **options):
        if "download" in command:
            text = (
                "ERROR: from versions: none\nERROR: No matching distribution for x\n[notice] new\n"
            )
            return subprocess.CompletedProcess(command, 1, None, text)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(UserError, match=r"^pip download failed: ERROR: No matching distribution"):
        pack.pack(tmp_path / "to", TARGET, {})
    assert not (tmp_path / "to").exists()


def test_a_wheel_built_for_this_machine_alone(source, tmp_path, monkeypatch):
    def building(command, **options):
        (tmp_path / "to" / "wheels" / "promise-2.3-cp311-cp311-linux_x86_64.whl").touch()
        return subprocess.CompletedProcess(command, 0, None, "")

    tracked = pack._tracked_files()
    monkeypatch.setattr(pack, "_tracked_files", lambda: tracked)
    monkeypatch.setattr(subprocess, "run", building)
    with pytest.raises(UserError, match=r"^built for this machine alone: promise-2.3-cp311"):
        pack.pack(tmp_path / "to", TARGET, {})


def test_only_a_checkout_of_git_can_be_carried(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "ROOT", tmp_path)
    with pytest.raises(UserError, match="expected a git checkout of tl, whose files are copied"):
        pack.pack(tmp_path / "to", TARGET, {})
    assert not (tmp_path / "to").exists()


@pytest.fixture
def carried(tmp_path):
    """A folder with a wheel, and a command `experiments.gpu` that says what it sees."""
    folder = tmp_path / "carried"
    (folder / "experiments").mkdir(parents=True)
    # Without it an installed `experiments` would come first.
    (folder / "experiments" / "__init__.py").touch()
    (folder / "wheels").mkdir()
    (folder / "experiments" / "gpu.py").write_text(
        "import os, sys, tiny\nprint(tiny.VALUE, os.getcwd(), *sys.argv[1:])\nsys.exit(1)\n"
    )
    about = "tiny-1.0.dist-info"
    with zipfile.ZipFile(folder / "wheels" / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny.py", "VALUE = 41")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", f"tiny.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n")
    shutil.copy2(pack.SCRIPT, folder / "run.sh")
    return folder


def run_script(folder, *arguments):
    return subprocess.run(
        ["sh", "carried/run.sh", *arguments],
        cwd=folder.parent,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_script_installs_the_wheels_once_and_starts_the_command(carried):
    for _ in range(2):
        result = run_script(carried, "out", "--test_seconds=60")
        assert result.returncode == 1 and result.stderr == ""
        assert result.stdout == f"41 {carried} --out={carried.parent}/out --test_seconds=60\n"
        shutil.rmtree(carried / "wheels", ignore_errors=True)  # the second time it needs none
    assert (carried / "site" / "tiny.py").exists()


def test_the_script_starts_anew_where_installing_failed(carried):
    (wheel,) = (carried / "wheels").iterdir()
    whole = wheel.read_bytes()
    wheel.write_bytes(b"no wheel")
    assert "ERROR" in run_script(carried, "out").stderr
    wheel.write_bytes(whole)
    assert run_script(carried, "/out").stdout == f"41 {carried} --out=/out\n"


def test_the_script_needs_a_folder(carried):
    assert "usage: sh run.sh OUT [FLAGS]" in run_script(carried).stderr
