from tests import pages, reported
from tl.report import page


def test_advice(undrawn, tmp_path):
    shown = pages.Page(page.build(reported.write_advice(tmp_path / "advice")))
    assert "Advice for efficientnet_lite0 on digits earlier-layer probe" in shown.text
    assert "expected top-1 91.0 % (88.0-93.0 %) expected time 30.0 s" in shown.text
    assert list(shown.sections) == [
        "verdict",
        "accuracy-over-images",
        "measured",
        "what-ran",
    ]
    assert shown.sections["verdict"].count("experiments.probe \\ --config=X") == 2
    assert "The command for fine-tune all" in shown.sections["verdict"]
    assert "stage2 40 1.25 3.5 80.0 % 0.01 70.0 % 85.0 %" in shown.sections["measured"]
    # Fewer rows than others had are not measured.
    assert "pooled 1,280 1.5 - 60.0 % 1 65.0 % -" in shown.sections["measured"]
    assert (
        "final features, top-1 65.0 % its errors over those of the final features 2.33"
        in shown.sections["measured"]
    )
    (picture,) = shown.of("img")
    assert picture["alt"] == (
        "Top-1 accuracy of probes of stage2 by number of images: 70.0\u202f% with 50, 85.0\u202f% "
        "with 100. Expected with 1,000: earlier-layer probe 91.0\u202f% (88.0\u201393.0\u202f%); "
        "fine-tune all 90.0\u202f% (88.0\u201393.0\u202f%)."
    )
    assert "Measured on 1,000 held-out images" in shown.sections["accuracy-over-images"]
    assert "images 1,000 looked at" in shown.sections["what-ran"]
