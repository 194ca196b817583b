"""The door from Python: `import tl`."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

import tl
from tests import make_api

README = Path(__file__).parents[1] / "README.md"


def test_import_is_free():
    code = "import sys, tl; print({'jax', 'numpy', 'PIL'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_every_name_is_there():
    assert set(tl.__all__) <= set(dir(tl))
    for name in tl.__all__:
        assert getattr(tl, name)
    with pytest.raises(AttributeError, match="module 'tl' has no attribute 'lod'"):
        getattr(tl, "lod")  # noqa: B009


def test_the_lines_of_the_readme_run(tmp_path, monkeypatch, capsys):
    (lines,) = re.findall(r"```python\n(import tl\n.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "photos").mkdir()
    Image.fromarray(skimage.data.chelsea()).save(tmp_path / "photos/cat.jpg")
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    assert "tabby" in capsys.readouterr().out


def test_the_page_is_what_the_docstrings_say():
    assert make_api.PAGE.read_text(encoding="utf-8") == make_api.page(), (
        "docs/api.md is stale: python -m tests.make_api"
    )


def test_the_page_has_every_name():
    there = {name for name, *_ in make_api.CONTENTS}
    assert {f"tl.{name}" for name in tl.__all__} - {"tl.__version__"} <= there


@pytest.mark.parametrize("name, module, members", make_api.CONTENTS)
def test_every_argument_is_explained(name, module, members):
    thing = getattr(importlib.import_module(module), name.rpartition(".")[2])
    for member in [thing, *(inspect.getattr_static(thing, name) for name in members)]:
        if isinstance(member, property):
            continue
        sections = make_api.parsed(inspect.getdoc(member)).sections
        section = sections.get("Attributes" if inspect.isclass(member) else "Args", "")
        explained = {one for names in make_api.entries(section) for one in names.split(", ")}
        wanted = {one for one in make_api.types(member) if not one.startswith("_")}
        assert explained == wanted


def test_how_the_page_is_made(tmp_path, monkeypatch):
    (tmp_path / "made_up.py").write_text(
        "SIDE = 3\n"
        "class Thing:\n"
        "  def cut(\n    self, at: int, *, side: int = SIDE\n  ) -> int:\n"
        '    """Cuts it.\n\n'
        "    Args:\n      at: where, a\n        number.\n      side: in pixels.\n\n"
        "    Returns:\n      What is\n      left.\n\n"
        '    Raises:\n      UserError: no such place.\n    """\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert make_api.entry("x.Thing", "made_up", ("cut",))[2:] == [
        "### `Thing.cut`",
        "```python\nThing.cut(\n  at: int, *, side: int = 3\n) -> int\n```",
        "Cuts it.",
        "Arguments:",
        "- **at** (`int`): where, a number.\n- **side** (`int`, default `3`): in pixels.",
        "Returns: What is left.",
        "Raises `UserError`: no such place.",
    ]
