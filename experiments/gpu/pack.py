"""The folder of `experiments.carry`: what git tracks, wheels that are missing there, a script."""

import dataclasses
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tl.errors import UserError
from tl.files import Log

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("run.sh")
EXTRAS = ("gpu", "test")
NOT_NEEDED = {"mypy", "ruff"}  # of the extra `test`: they check the source, which is done here
SOURCE_ONLY = {"promise"}  # has no wheels on PyPI; TFDS needs it
# pip takes wheels of exactly the platforms that it is given; these are all up to glibc 2.28.
MANYLINUX = [f"manylinux_2_{minor}" for minor in range(28, 4, -1)]
MANYLINUX += ["manylinux2014", "manylinux2010", "manylinux1"]
MACHINES = ("x86_64", "aarch64")
MB = 1e6
LARGEST = 5  # wheels to name at the end


@dataclasses.dataclass(frozen=True)
class Target:
    """The machine that the folder is for; it runs Linux.

    Attributes:
      python: version of its CPython, such as `3.12`.
      machine: its processor, as `uname -m` says it.

    Raises:
      UserError: no version, or another processor.
    """

    python: str
    machine: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"3\.\d+", self.python):
            raise UserError(f"expected --python to be a version such as 3.12, got {self.python!r}")
        if self.machine not in MACHINES:
            raise UserError(
                f"expected --platform to be {' or '.join(MACHINES)}, got {self.machine!r}"
            )

    def markers(self) -> dict[str, str]:
        """Returns what the markers of requirements, such as `python_version < "3.13"`, ask for."""
        return {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


def pack(into: Path, target: Target, have: Mapping[str, str], log: Log = print) -> None:
    """Makes the folder; where that fails, there is none.

    Args:
      into: the folder, new or empty.
      target: the machine that it is for.
      have: packages of that machine, as `read_have` returns them; they are left out, unless tl
        needs another version.
      log: takes a line of text.

    Raises:
      UserError: the folder holds something, this is no git checkout, the Python there is too old,
        or pip finds no wheel of a package.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UserError(f"expected --into to be a new or an empty folder, got {into}")
    tracked = _tracked_files()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if not SpecifierSet(project["requires-python"]).contains(target.python):
        raise UserError(
            f"expected --python to be {project['requires-python']}, which tl needs, got "
            f"{target.python}"
        )
    extras = project["optional-dependencies"]
    roots = [*project["dependencies"], *(text for extra in EXTRAS for text in extras[extra])]
    pins, others = missing(map(Requirement, roots), target, have)
    log(f"fetching {len(pins) + len(others)} packages")
    try:
        wheels = into / "wheels"
        wheels.mkdir(parents=True)
        _fetch(pins, others, target, wheels)
        for name in tracked:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name, follow_symlinks=False)
        shutil.copy2(SCRIPT, into / SCRIPT.name)
    except BaseException:
        shutil.rmtree(into)
        raise
    _log_sizes(into, tracked, log)


def read_have(file: Path) -> dict[str, str]:
    """Returns the packages that a file names, one a line, with their versions.

    Args:
      file: lines such as `jax==0.11.2`, as `pip list --format=freeze` prints them, or `jax`.

    Returns:
      Normalised name to version, '' where the line has none.

    Raises:
      UserError: there is no such file, or a line names no package.
    """
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise UserError(f"--have={file} cannot be read: {error.strerror}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not (text := line.partition("#")[0].strip()):
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            raise UserError(
                f"--have={file}, line {number}: expected a package such as jax==0.11.2 or jax, got "
                f"{text!r}"
            ) from None
        exact = [specifier.version for specifier in requirement.specifier]
        found[canonicalize_name(requirement.name)] = exact[0] if exact else ""
    return found


def missing(
    roots: Iterable[Requirement], target: Target, have: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Returns what the requirements come to on another machine, less what is there.

    What a package that is there requires is taken to be there, its extras too.

    Args:
      roots: the requirements.
      target: the machine.
      have: normalised name to version of what is there; a version '' fits every requirement.

    Returns:
      Name to version of packages that are installed here, which is the version that was tested;
      requirements whose packages are not installed here.
    """
    pins: dict[str, str] = {}
    others: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [requirement for requirement in roots if _applies(requirement, target, "")]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in NOT_NEEDED or _is_there(requirement, have.get(name)):
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            requirement.marker = None  # it applies, and pip would ask this machine
            others[name] = str(requirement)
            continue
        pins[name] = distribution.version
        for extra in {"", *requirement.extras} - {extra for of, extra in seen if of == name}:
            seen.add((name, extra))
            required = map(Requirement, distribution.requires or ())
            todo += [inner for inner in required if _applies(inner, target, extra)]
    return dict(sorted(pins.items())), sorted(others.values())


def _applies(requirement: Requirement, target: Target, extra: str) -> bool:
    marker = requirement.marker
    return marker is None or marker.evaluate({**target.markers(), "extra": extra})


def _is_there(requirement: Requirement, version: str | None) -> bool:
    if not version:
        return version is not None
    return requirement.specifier.contains(version, prereleases=True)


def _tracked_files() -> list[str]:
    """Returns the paths, below ROOT, of the files that git tracks and that are there."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        listed = ""
    names = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    if not names:
        raise UserError(f"expected a git checkout of tl, whose files are copied; {ROOT} is none")
    return names


def _fetch(pins: Mapping[str, str], others: list[str], target: Target, wheels: Path) -> None:
    """Brings wheels of the packages; of `others`, also of what these require."""
    download = ["download", f"--dest={wheels}", "--only-binary=:all:", "--implementation=cp"]
    download += [f"--python-version={target.python}", "--platform=any"]
    download += [f"--platform={name}_{target.machine}" for name in MANYLINUX]
    exact = {name: f"{name}=={version}" for name, version in pins.items()}
    if sources := [exact.pop(name) for name in sorted(SOURCE_ONLY & set(exact))]:
        _pip("wheel", "--no-deps", f"--wheel-dir={wheels}", *sources)
        if built := [path.name for path in wheels.iterdir() if "-none-any" not in path.name]:
            raise UserError(f"built for this machine alone: {', '.join(built)}")
    if exact:
        _pip(*download, "--no-deps", *exact.values())
    if others:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
            constraints.write("\n".join(exact.values()))
            constraints.flush()
            _pip(*download, f"--constraint={constraints.name}", *others)


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments]
    result = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"status {result.returncode}"]
        errors = [line for line in lines if line.startswith("ERROR")]
        raise UserError(f"pip {arguments[0]} failed: {(errors or lines)[-1]}")


def _log_sizes(into: Path, tracked: list[str], log: Log) -> None:
    wheels = {path.name.split("-")[0]: path.stat().st_size for path in into.glob("wheels/*.whl")}
    source = sum((into / name).stat().st_size for name in tracked)
    log(f"{into}: {len(tracked)} files of tl, {source / MB:.1f} MB")
    log(f"{into / 'wheels'}: {len(wheels)} wheels, {sum(wheels.values()) / MB:.1f} MB")
    for name in sorted(wheels, key=lambda name: -wheels[name])[:LARGEST]:
        log(f"  {wheels[name] / MB:8.1f} MB  {name}")
    log(f"there: sh {into.name}/run.sh OUT")
