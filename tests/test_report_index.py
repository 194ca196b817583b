import pytest

from tests import reported
from tests.pages import Page
from tl.errors import UserError
from tl.report.index import index


@pytest.fixture
def root(undrawn, tmp_path):
    root = tmp_path / "runs"
    probe = reported.write_probe(root / "a probe & more")
    (probe / "report.html").touch()
    # Of an interrupted save: no run is inside a run.
    reported.write_finetune(probe / "checkpoints" / "1")
    reported.write_finetune(root / "day 1" / "tuned")
    study = reported.write_study(root / "study")
    reported.write_probe(study / "runs" / "stage2-0")
    for name, text in (("broken", "{"), ("other", '{"kind": "probe"}')):
        (root / name).mkdir()
        (root / name / "result.json").write_text(text)
    (root / "unfinished").mkdir()
    (root / "unfinished" / "metrics.jsonl").touch()
    return root


def test_every_run_is_listed(root):
    path = index(root)
    assert path == root / "index.html"
    shown = Page(path)
    assert shown.text.startswith(
        "Index Runs in runs 2 probe, 1 fine-tuning, 1 study; 2 min 2 s of computing"
    )
    assert list(shown.sections) == ["runs", "accuracy-over-cost", "damaged"]
    runs = shown.sections["runs"]
    assert (
        "a probe & more Probe digits efficientnet_lite0 95.0 % 85.0-99.0 % 28.5 s "
        "2026-11-25 03:58 pooled, logistic, l2 0.01" in runs
    )
    assert "day 1/tuned Fine-tuning digits efficientnet_lite0 96.7 %" in runs
    assert "study Study Endpoints with few examples" in runs
    assert "4 runs, 1 of 1 claims hold" in runs
    assert "unfinished" not in shown.text and "checkpoints" not in shown.text
    # The runs of a study stand under it.
    assert runs.index("1 run of the study study") < runs.index("study/runs/stage2-0")


def test_pages_are_linked_where_they_are(root):
    shown = Page(index(root))
    links = [a["href"] for a in shown.of("a") if not a["href"].startswith("#")]
    assert links == ["a%20probe%20%26%20more/report.html"]


def test_accuracy_over_cost_names_the_best(root):
    (alt,) = [image["alt"] for image in Page(index(root)).of("img")]
    assert "of 3 runs" in alt and "day 1/tuned: 96.7" in alt


def test_names_that_no_font_draws_are_said(undrawn, tmp_path):
    reported.write_probe(tmp_path / "run 𒀀")
    assert "can draw 𒀀; in the pictures □ stands" in Page(index(tmp_path)).text


def test_damaged_ones_say_why(root):
    damaged = Page(index(root)).sections["damaged"]
    assert "broken" in damaged and "result.json is damaged" in damaged
    assert "other its result lacks 'seconds'" in damaged


def test_a_study_by_itself(undrawn, tmp_path):
    study = reported.write_study(tmp_path / "study")
    shown = Page(index(study))
    assert list(shown.sections) == ["runs"]
    assert "study Study Endpoints with few examples" in shown.sections["runs"]


def test_the_index_of_nothing(tmp_path):
    with pytest.raises(UserError, match=r"no result\.json or study\.json is below"):
        index(tmp_path)
    with pytest.raises(UserError, match="no folder is called"):
        index(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())
