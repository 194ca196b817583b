import dataclasses

import pytest

from tl.weights.spec import LINKS, HubFile, LocalFile, PackageFile, Preprocessing, Url, WeightSpec

SPEC = WeightSpec(
    name="net.set",
    backbone="net",
    source=LocalFile("net"),
    scheme="torchvision",
    preprocessing=Preprocessing(),
    licence="Apache-2.0",
)


@pytest.mark.parametrize(
    ("source", "url", "filename"),
    [
        (
            HubFile("timm/resnet50.a1_in1k"),
            "https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors",
            "model.safetensors",
        ),
        (
            Url("https://example.org/a/net-0123.pth"),
            "https://example.org/a/net-0123.pth",
            "net-0123.pth",
        ),
        (
            PackageFile("some_model", "net.pth", "ab"),
            "https://pypi.org/project/some-model/",
            "net.pth",
        ),
    ],
)
def test_where_a_file_is_and_what_it_is_called(source, url, filename):
    assert (source.url, source.filename) == (url, filename)


@pytest.mark.parametrize(
    ("licence", "forbids"), [("CC-BY-NC-4.0", True), ("Apache-2.0", False), ("MIT", False)]
)
def test_licences_that_forbid_commercial_use(licence, forbids):
    assert dataclasses.replace(SPEC, licence=licence).non_commercial == forbids


def test_a_field_that_was_not_always_there_is_described_only_where_it_says_something():
    described = Preprocessing(size=8).described()
    assert "draft" not in described
    assert Preprocessing(**described) == Preprocessing(size=8)
    drafted = Preprocessing(size=8, draft=True)
    assert drafted.described() == {**described, "draft": True}
    assert Preprocessing(**drafted.described()) == drafted


def test_a_head_is_softmaxs_unless_said_otherwise():
    assert SPEC.link == "softmax" and LINKS == ("softmax", "sigmoid")
