import functools

from tests import commands, reported

run = functools.partial(commands.run, "experiments.report")


def test_pages_and_index(tmp_path):
    result = {
        "data": {"name": "digits", "version": "", "splits": {}, "classes": 2},
        "weights": {"name": "tiny", "sha256": "0"},
        "features": {"train": {"count": 3, "widths": {"pooled": 8}}},
        "seconds": {"total": 3.0},
    }
    folders = [reported.write_run(tmp_path / name, "extract", result) for name in "ab"]
    pages = [folder / "report.html" for folder in folders]
    assert run(*folders).splitlines() == list(map(str, pages))
    assert all("3</strong> images, their features stored" in p.read_text() for p in pages)
    assert run(f"--index={tmp_path}") == f"{tmp_path / 'index.html'}\n"
    assert 'href="a/report.html"' in (tmp_path / "index.html").read_text()


def test_mistakes_are_one_message(tmp_path):
    (tmp_path / "metrics.jsonl").touch()
    message = run(tmp_path, status=2)
    assert message.startswith(f"error: {tmp_path} is no finished run: expected result.json")
    assert "Traceback" not in message
    assert "--index=ROOT for all runs below a folder; got neither" in run(status=2)
