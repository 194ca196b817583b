import json

import pytest

from tl.errors import UserError
from tl.results import run


def write(path, **files):
    for name, content in files.items():
        (path / f"{name}.json").write_text(
            content if isinstance(content, str) else json.dumps(content)
        )
    return path


def test_a_run_is_what_its_files_hold(tmp_path):
    write(tmp_path, result={"kind": "probe"}, config={"weights": "w"})
    found = run.read(tmp_path)
    assert (found.kind, found.name, found.config) == ("probe", tmp_path.name, {"weights": "w"})
    assert found.environment == {}
    with pytest.raises(UserError, match=r"has no predictions\.npz"):
        _ = found.predictions


@pytest.mark.parametrize(
    ("sign", "kind"),
    [("features", "extract"), ("published", "evaluate"), ("curve", "finetune"), ("grid", "probe")],
)
def test_the_oldest_results_do_not_name_their_kind(sign, kind, tmp_path):
    assert run.read(write(tmp_path, result={sign: {}})).kind == kind


def test_a_study_is_read_by_its_own_file(tmp_path):
    assert run.read(write(tmp_path, study={"kind": "study"})).kind == "study"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"is no finished run: expected result\.json or study\.json, .* found nothing\. Give"),
        ({"config": {}}, r"found config\.json\. Give the folder"),
        ({"result": {"kind": "soup"}}, "is of the kind 'soup'; expected one of extract, probe"),
        ({"result": "{"}, r"result\.json is damaged \(JSONDecodeError: .*; restore it"),
        ({"result": [1]}, r"damaged \(ValueError: expected names with values, got \[1\]\)"),
        ({"result": {"kind": "probe"}, "config": "{"}, r"config\.json is damaged"),
    ],
)
def test_other_folders(files, message, tmp_path):
    with pytest.raises(UserError, match=message):
        run.read(write(tmp_path, **files))


def test_no_folder(tmp_path):
    with pytest.raises(
        UserError, match=r"no folder is called .*missing; give one that a run wrote"
    ):
        run.read(tmp_path / "missing")
