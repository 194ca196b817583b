"""The command `tl`: `tl probe --config=quickstart` is `python -m experiments.probe ...`."""

import importlib.util
import runpy
import sys
from pathlib import Path

# In an installed package the repository's configs and experiments lie here.
BUNDLED = Path(__file__).parent / "bundled"


def main() -> None:
    """Runs the command that the first argument names."""
    if BUNDLED.is_dir():
        sys.path.insert(0, str(BUNDLED))
    sys.path.append("")  # modules that the user's own configs import
    commands = _commands()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help", "help"):
        print("usage: tl COMMAND [ARGUMENTS]; tl COMMAND --help has its flags\n")
        width = max(map(len, commands))
        print("\n".join(f"  {command:{width}}  {text}" for command, text in commands.items()))
        return
    if name == "--version":
        import tl

        print(tl.__version__)
        return
    if name not in commands:
        from tl.errors import nearest

        print(f"error: no command is called {name!r}{nearest(name, commands)}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"tl {name}", *sys.argv[2:]]
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)


def _commands() -> dict[str, str]:
    """Returns each command with the first line of its docstring."""
    spec = importlib.util.find_spec("experiments")
    assert spec is not None and spec.submodule_search_locations is not None
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = [*folder.glob("[!_]*.py"), *folder.glob("*/__main__.py")]
    named = {(f.parent.name if f.stem == "__main__" else f.stem): f for f in files}
    return {name: _first_line(named[name]) for name in sorted(named)}


def _first_line(file: Path) -> str:
    return file.read_text(encoding="utf-8").split("\n", 1)[0].strip('r"')


if __name__ == "__main__":
    main()
