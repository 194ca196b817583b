import json

import pytest

from tests import pages, reported
from tl.report import page


def test_a_study(undrawn, tmp_path):
    folder = reported.write_study(tmp_path / "study")
    page_of_run = folder / "runs" / "stage2-0" / "report.html"
    page_of_run.parent.mkdir(parents=True)
    page_of_run.touch()
    shown = pages.Page(page.build(folder))
    assert "Endpoints with few examples 1 of 1 claims hold runs done 3 of 4" in shown.text
    assert "Warning pooled-1: out of memory" in shown.text
    assert list(shown.sections) == ["advice", "accuracy", "plots", "what-ran", "runs"]
    advice = shown.sections["advice"]
    assert "5 stage2 holds stage2 +20.0 (+10.0 to +30.0) 0.001" in advice
    assert "Why 5: small and different: an earlier endpoint stage2 is best." in advice
    assert "stage2 80.0 (75.0-85.0) pooled 60.0 (50.0-70.0), 1 failed" in shown.sections["accuracy"]
    # The axis of examples may change the data.
    assert "The same in all runs weights efficientnet_lite0 Versions" in shown.sections["what-ran"]
    assert "runs/stage2-0/report.html" in [a["href"] for a in shown.of("a")]
    assert shown.sections["runs"].count("failed") == 1


def test_a_study_without_claims(undrawn, tmp_path):
    shown = pages.Page(
        page.build(reported.write_study(tmp_path / "study", claims=[], columns="endpoint"))
    )
    assert "Endpoints with few examples 3 of 4 runs done axes" in shown.text
    assert next(iter(shown.sections)) == "accuracy"
    # Levels are compared along the columns, and the best stands out.
    strong = [cell for cell in shown.of("td") if "strong" in cell["class"]]
    assert [cell["data-value"] for cell in strong] == ["0.8"]


@pytest.mark.parametrize("over", [{"over": "images alone"}, {}])
def test_a_verdict_on_images_alone_says_so(undrawn, tmp_path, over):
    folder = reported.write_study(tmp_path / "study")
    (claim,) = json.loads((folder / "study.json").read_text())["claims"]
    del claim["over"]  # studies from before intervals were over seeds have none
    reported.write_study(folder, claims=[claim | over])
    assert "stage2 holds, images alone stage2 +20.0" in pages.Page(page.build(folder)).text


@pytest.mark.parametrize(
    ("verdicts", "notes"),
    [
        (["does not hold", "holds"], "1 of 2 claims hold 1 does not hold runs"),
        (
            ["does not hold", "undecided", "does not hold"],
            "0 of 3 claims hold 2 do not hold 1 undec",
        ),
        (["within noise", "holds", "within noise"], "1 of 3 claims hold 2 within noise runs"),
    ],
)
def test_the_headline_of_a_study_counts_verdicts(undrawn, tmp_path, verdicts, notes):
    folder = reported.write_study(tmp_path / "study")
    study = json.loads((folder / "study.json").read_text())
    (claim,) = study["claims"]
    reported.write_study(folder, claims=[claim | {"verdict": verdict} for verdict in verdicts])
    assert notes in pages.Page(page.build(folder)).text
