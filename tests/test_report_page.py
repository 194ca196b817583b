import json
import shutil
import subprocess
import sys

import pytest

from tests import commands, pages, reported
from tl.errors import UserError
from tl.report import page


def test_every_part_is_there_in_reading_order(probe_page):
    _, shown = probe_page
    assert list(shown.sections) == [
        "test-accuracy-by-endpoint",
        *pages.EVIDENCE,
        "near-duplicates",
        "use-this-model",
        "selection-on-val",
        "what-ran",
    ]
    (links,) = [[a["href"] for a in shown.of("a")]]
    assert links == [f"#{name}" for name in shown.sections]


def test_the_same_files_make_the_same_page_anywhere(probe_page, undrawn, tmp_path):
    folder, _ = probe_page
    one, other = (shutil.copytree(folder, tmp_path / at / folder.name) for at in ("a", "b"))
    (other / page.PAGE).unlink()
    assert page.build(one).read_bytes() == page.build(other).read_bytes()
    assert not list(other.glob(".*"))  # no half of a page


def test_pages_do_without_jax(tmp_path):
    """Its import takes a second, and reading a run's files needs nothing of it."""
    folder = reported.write_finetune(tmp_path / "run")
    code = "from pathlib import Path; from tl.report import page; page.index(Path(sys.argv[1]))\n"
    # It builds the page.
    code += "runpy.run_module('experiments.report', run_name='__main__', alter_sys=True)"
    said = "atexit.register(lambda: print('jax' in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", f"import atexit, runpy, sys; {said}\n{code}", folder],
        cwd=commands.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[-1] == "False", done.stderr
    assert (folder / page.PAGE).exists()


def test_what_a_run_lacks_is_named(undrawn, tmp_path):
    folder = reported.write_probe(tmp_path / "run")
    for file in ("predictions.npz", "config.json", "environment.json"):
        (folder / file).unlink()
    (folder / "examples.json").write_text("[")
    result = json.loads((folder / "result.json").read_text())
    del result["kind"], result["grid"], result["warnings"]
    reported.write(folder / "result.json", {**result, "grid": []})
    shown = pages.Page(page.build(folder))
    assert list(shown.sections) == [
        "test-accuracy-by-endpoint",
        "near-duplicates",
        "use-this-model",
        "selection-on-val",
        "what-ran",
        "not-shown",
    ]
    missing = shown.sections["not-shown"]
    assert f"Confusion matrix, Classes, Reliability, Features: {folder} has no predictions.npz"
    assert "examples.json is damaged" in missing
    assert missing.count("predictions.npz:") == 1  # one line for all that need it


def test_an_older_result_lacks_fields(undrawn, tmp_path):
    folder = reported.write_finetune(tmp_path / "run")
    result = json.loads((folder / "result.json").read_text())
    del result["curve"]
    reported.write(folder / "result.json", result)
    missing = pages.Page(page.build(folder)).sections["not-shown"]
    assert missing.startswith(f"Not shown Learning curves: the files of {folder} lack 'curve'")


def test_no_run(tmp_path):
    with pytest.raises(
        UserError, match=r"no folder is called .*nowhere; give one that a run wrote"
    ):
        page.build(tmp_path / "nowhere")
    (tmp_path / "metrics.jsonl").touch()
    expected = r"expected result\.json or study\.json.*found metrics\.jsonl.*--index="
    with pytest.raises(UserError, match=expected):
        page.build(tmp_path)
    for text, message in (
        ('{"schema', r"result\.json is damaged"),
        ("[1]", r"expected names with values, got \[1\]"),
        ('{"kind": "prob"}', "of the kind 'prob'; expected one of extract, probe"),
        ("{}", "of the kind None"),
        ('{"kind": "probe"}', "lack 'weights'"),
    ):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(UserError, match=message):
            page.build(tmp_path)
    assert not (tmp_path / page.PAGE).exists()
