import sys

from tl.results import called


def test_in_a_checkout_nothing_changes():
    text = "python -m experiments.predict RUN, see `experiments.weights list`"
    assert called.as_called(text) == text


def test_of_an_installed_package_tl_is_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(called, "BUNDLED", tmp_path)
    for text, expected in {
        "python -m experiments.predict RUN": "tl predict RUN",
        "/v/bin/python3.11 -m experiments.probe --config=a": "tl probe --config=a",
        "'/my v/bin/python3' -m experiments.probe --config=a": "tl probe --config=a",
        "`experiments.weights list`, or experiments.probe": "`tl weights list`, or tl probe",
        "/data/experiments.probe/run": "/data/experiments.probe/run",
    }.items():
        assert called.as_called(text) == expected


def test_where_tl_was_started_it_is_the_command(monkeypatch):
    for script, expected in {"/v/bin/tl": "tl predict RUN", "/v/bin/pytest": None}.items():
        monkeypatch.setattr(sys, "orig_argv", ["/v/bin/python3", script, "probe"])
        text = "python -m experiments.predict RUN"
        assert called.as_called(text) == (expected or text)
