import copy

import pytest

from tl.advice import text

RESULT = {
    "data": {
        "name": "cifar10",
        "classes": 10,
        "images": 50000,
        "examples_per_class": 5000.0,
        "looked_at": 3000,
    },
    "weights": {"name": "efficientnet_lite0"},
    "resolution": {"images": 32, "used": 96, "weights": 224},
    "verdict": {"size": "large", "similarity": "similar", "gain_of_fine_tuning": 0.105},
    "similarity": {
        "final_top1": 0.699,
        "earlier_endpoint": "stage7",
        "earlier_top1": 0.716,
        "error_ratio": 0.94,
        "exponent": 0.12,
        "head_entropy": 0.164,
    },
    "endpoints": [
        {"endpoint": "stage7", "logme": 0.049, "h_score": 4.7, "knn_top1": 0.635,
         "top1": {"500": 0.662, "2000": 0.716}},
        {"endpoint": "pooled", "logme": 0.046, "h_score": 6.1, "knn_top1": 0.64,
         "top1": {"500": 0.649, "2000": 0.699}},
    ],
    "choices": [
        {"method": "fine-tune all", "endpoint": None, "top1": 0.872,
         "top1_interval": [0.687, 0.983], "seconds": 10000.0,
         "command": "python -m experiments.finetune"},
        {"method": "final-layer probe", "endpoint": "pooled", "top1": 0.767,
         "top1_interval": [0.687, 0.828], "seconds": 240.0, "command": "python"},
    ],
    "notes": [],
}  # fmt: skip


def with_(**fields):
    result = copy.deepcopy(RESULT)
    for name, value in fields.items():
        part, field = name.split("__")
        result[part][field] = value
    return result


def test_headline():
    assert text.headline(RESULT) == (
        "Large and similar: fine-tuning of the whole network, about 87.2 % (68.7-98.3), about 2.8 h"
    )


def test_sentences_say_which_case_and_what_to_do():
    case, what, how = text.sentences(RESULT)
    assert "large (5000 images a class; large is from 50) and similar to ImageNet" in case
    assert "stage7, has 71.6 % of held-out images right, the final features 69.9 %." in case
    assert what.startswith("Use fine-tuning of the whole network")
    assert "falls as n^-0.12" in what
    assert "10.5 points over a linear classifier on the final features (pooled)." in what
    assert "neither it nor the choice of endpoint and strength has seen" in how


def test_a_case_is_not_contradicted_by_rounding():
    case = text.sentences(with_(verdict__size="small", data__examples_per_class=49.8))[0]
    assert "small (49 images a class; large is from 50)" in case


def test_a_probe_that_fine_tuning_would_not_help():
    result = with_(verdict__gain_of_fine_tuning=0.0, verdict__similarity="different")
    result["choices"].reverse()
    case, what, _ = text.sentences(result)
    assert "different from ImageNet" in case
    assert what.endswith("is expected to do no better and takes about 2.8 h.")
    result["verdict"]["gain_of_fine_tuning"] = 0.004
    assert "is expected to gain 0.4 points over it and takes" in text.sentences(result)[1]


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ((32, 96, 224), "--config.preprocess.size=224 may give more, at 5.4 times the cost"),
        ((32, 224, 224), "--config.preprocess.size=112 costs 4.0 times less"),
        ((500, 224, 224), "images of 500 px, seen at 224 px; the weights were trained at 224 px"),
    ],
)
def test_resolution(sides, expected):
    result = {"resolution": dict(zip(("images", "used", "weights"), sides))}
    assert text.resolution(result).endswith(expected)


def test_notes():
    assert text.notes(with_(data__images=3000), "mean") == []
    (note,) = text.notes(with_(data__images=3000, verdict__similarity="different"), "mean")
    assert "advise again with --config.extract.pooling=grid2" in note
    few, far = text.notes(with_(data__looked_at=90), "grid2")
    assert few == "90 images of 10 classes are few to judge by; --images=N looks at more."
    (all_there_are,) = text.notes(with_(data__looked_at=90, data__images=90), "grid2")
    assert all_there_are == "90 images of 10 classes are few to judge by."
    assert far == "The accuracy with 50,000 images is extrapolated from 90."


def test_the_screen():
    result = copy.deepcopy(RESULT)
    result["notes"] = ["Mind this."]
    result["verdict"]["sentences"] = text.sentences(result)
    lines = text.console(result).splitlines()
    assert lines[-2:] == ["Run next:", "python -m experiments.finetune"]
    assert "note: Mind this." in lines
    (row,) = [line.split() for line in lines if line.startswith("stage7")]
    assert row == ["stage7", "0.049*", "4.7", "63.5", "66.2*", "71.6*"]
    (row,) = [line.split() for line in lines if line.startswith("pooled")]
    assert row == ["pooled", "0.046", "6.1*", "64.0*", "64.9", "69.9"]
    assert "0.16 of log 1000" in text.console(result)
    result["similarity"]["head_entropy"] = None
    assert "ImageNet head not known" in text.console(result)
    assert "0.94 of the final features' errors (different: up to 0.67)" in text.console(result)
    result["similarity"]["error_ratio"] = None
    assert "the final features make no error" in text.console(result)
    assert len(lines) < 33


def test_no_line_is_wider_than_a_terminal_but_the_command():
    result = copy.deepcopy(RESULT)
    sizes = {"20": 0.5, "667": 0.6, "2000": 1.0}
    result["endpoints"].append(
        {"endpoint": "stage3+stage4+stage5", "logme": -10.123, "h_score": 103.5, "knn_top1": 1.0}
    )
    for row in result["endpoints"]:
        row["top1"] = sizes
    result["data"]["name"] = "a_data_set_with_a_name_of_its_own"
    result["choices"].reverse()
    result["choices"][0]["endpoint"] = "stage3+stage4+stage5"
    result["choices"][0]["method"] = "earlier-layer probe"
    result["verdict"]["sentences"] = text.sentences(result)
    result["notes"] = text.notes(with_(data__looked_at=90, verdict__similarity="different"), "mean")
    result["choices"][0]["command"] = "python " + "x" * 200
    *lines, command = text.console(result).splitlines()
    assert max(map(len, lines)) <= 100 < len(command)
    assert max(len(line) for line in lines if line.startswith(("stage", "pooled"))) <= 80
    assert any("--config.preprocess.size=224" in line for line in lines)  # in one piece
