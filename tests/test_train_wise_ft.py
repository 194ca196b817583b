import numpy as np

from tl.train import wise_ft

START = {"params": {"w": np.float32([0, 10])}, "batch_stats": {"m": np.float32(4)}}
END = {"params": {"w": np.float32([1, -10])}, "batch_stats": {"m": np.float32(0)}}


def test_every_leaf_is_on_the_line():
    between = wise_ft.interpolated(START, END, 0.25)
    np.testing.assert_array_equal(between["params"]["w"], np.float32([0.25, 5]))
    np.testing.assert_array_equal(between["batch_stats"]["m"], np.float32(3))
    assert wise_ft.interpolated(START, END, 1.0)["params"]["w"] is END["params"]["w"]


def test_the_best_on_val_is_chosen():
    def evaluate(variables):
        distance = abs(float(variables["params"]["w"][0]) - 0.3)
        return {"top1": 1 - distance, "loss": distance}

    variables, rows, chosen = wise_ft.choose(START, END, evaluate, 100)
    assert [row["share"] for row in rows] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    assert rows[chosen]["share"] == 0.3 and rows[3].keys() == {"share", "val_top1", "val_loss"}
    np.testing.assert_allclose(variables["params"]["w"], [0.3, 4], rtol=1e-6)


def test_within_one_image_of_the_best_the_loss_decides():
    accuracies, losses = (0.70, 0.80, 0.85, 0.80), (0.1, 0.5, 0.9, 0.4)
    rows = [{"val_top1": a, "val_loss": b} for a, b in zip(accuracies, losses)]
    assert wise_ft.best(rows, 20) == 3  # 16 and 17 of 20 are right
    assert wise_ft.best(rows, 21) == 2  # the others are more than an image away


def test_of_equals_the_one_nearest_to_the_end():
    _, _, chosen = wise_ft.choose(START, END, lambda variables: {"top1": 0.5, "loss": 1.0}, 4)
    assert chosen == 10
