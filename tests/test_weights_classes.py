import json

import pytest

from tl.errors import UserError
from tl.weights.classes import read


@pytest.mark.parametrize(
    "name, text",
    [
        ("c.txt", "cat\nsmall dog\r\némeu\n\n"),
        ("c.json", json.dumps(["cat", "small dog", "émeu"])),
        ("c.json", json.dumps({"émeu": 2, "cat": 0, "small dog": 1})),
    ],
)
def test_names_in_the_order_of_the_outputs(name, text, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read(str(tmp_path / name)) == ("cat", "small dog", "émeu")


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("c.txt", "cat\n\ndog", "must name each class once, without empty names"),
        ("c.txt", "cat\ncat", "must name each class once"),
        ("c.txt", "", "must name each class once"),
        ("c.json", '{"cat": 0, "dog": 2}', "neither a list of names nor the numbers 0, 1, 2"),
        ("c.json", "[1, 2]", "neither a list of names nor"),
        ("c.json", "{", "cannot be read"),
    ],
)
def test_mistakes(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=f"^weights_classes: .*{message}"):
        read(str(tmp_path / name))
    with pytest.raises(UserError, match=r"absent\.txt cannot be read"):
        read(str(tmp_path / "absent.txt"))
