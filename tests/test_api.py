"""The door from Python: `import tl`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

import tl

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
