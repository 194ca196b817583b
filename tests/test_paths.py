"""Paths of object stores, against servers on this machine."""

import concurrent.futures
import pathlib
import pickle

import pytest

from tl import paths
from tl.errors import UserError
from tl.paths import RemotePath, as_local, as_path


def test_a_path_of_this_machine_is_pathlibs(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert as_path("~/runs") == pathlib.Path("/home/someone/runs")
    assert as_path(pathlib.Path("a/b")) == pathlib.Path("a/b")
    assert not isinstance(as_path("a:b/c"), RemotePath)


def test_a_path_of_a_store_keeps_its_form():
    path = as_path("s3://bucket/a//b/")
    assert isinstance(path, pathlib.Path)
    assert str(path) == "s3://bucket/a/b"
    assert (path.name, str(path.parent), path.suffix) == ("b", "s3://bucket/a", "")
    assert str(path / "c.json") == "s3://bucket/a/b/c.json"
    assert f"{(path / 'c.json').with_name('d')}" == "s3://bucket/a/b/d"
    assert path.resolve() == path.absolute() == path.expanduser() == as_path(path)
    assert (path / "c").relative_to(path).as_posix() == "c"
    assert (path / "c").is_relative_to(path)
    assert pickle.loads(pickle.dumps(path)) == path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://x/y", "expected a path of this machine, gs:// or s3://, got https://x/y"),
        ("s3://", "expected s3://BUCKET/NAME, got s3://"),
        ("gs:///", "expected gs://BUCKET/NAME, got gs:///"),
        ("s3:///bucket/a", "expected s3://BUCKET/NAME, got s3:///bucket/a"),
        ("s3:/bucket/a", "expected s3://BUCKET/NAME, got s3:/bucket/a"),
        ("S3://b/a", "expected a path of this machine, gs:// or s3://, got S3://b/a"),
    ],
)
def test_other_addresses_are_refused(text, said):
    with pytest.raises(UserError) as refused:
        as_path(text)
    assert str(refused.value) == said


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(paths._PACKAGES, "s3", ("no_such_package", "s3"))
    with pytest.raises(UserError, match=r"^s3://b/a needs a package .* pip install '\.\[s3\]'$"):
        as_path("s3://b/a")


def test_what_has_to_be_local_says_so():
    assert as_local("a", "--output") == pathlib.Path("a")
    with pytest.raises(UserError, match=r"^--output has to be on this machine, not at s3://b/a$"):
        as_local("s3://b/a", "--output")


@pytest.mark.parametrize("store", ["s3", "gs"])
def test_files_come_and_go(store, request):
    folder = request.getfixturevalue(store) / "files"
    file = folder / "below" / "a.txt"
    assert not file.exists() and not folder.exists() and not folder.is_dir()
    assert list(folder.glob("*/*.txt")) == []
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text("ä 1")
    assert file.exists() and file.is_file() and not file.is_dir() and not file.is_symlink()
    assert folder.exists() and folder.is_dir() and not folder.is_file()
    assert (file.read_text(), file.read_bytes()) == ("ä 1", "ä 1".encode())
    with file.open("rb") as opened:
        assert opened.read(2) == "ä".encode()
    (folder / "b").write_bytes(memoryview(b"123"))
    assert sorted(folder.iterdir()) == [folder / "b", folder / "below"]
    assert list(folder.glob("*/*.txt")) == [file]
    assert all(isinstance(found, RemotePath) for found in folder.glob("*"))
    file.unlink()
    assert not file.exists()
    file.unlink(missing_ok=True)
    paths.remove_tree(folder)
    assert not folder.exists()
    paths.remove_tree(folder)


def test_special_characters_of_a_folder_are_no_pattern(s3):
    for name in ("lr1", "lr[1]", "lr?", "lr*", "lr#%20 ä"):
        for file in ("a.json", "b/c.png"):
            (s3 / name / file).write_text(name)
    for name in ("lr[1]", "lr?", "lr*", "lr#%20 ä"):
        folder = s3 / name
        assert list(folder.glob("*.json")) == list(folder.glob("a.json")) == [folder / "a.json"]
        assert list(folder.glob("b/*.png")) == list(folder.glob("*/*.png")) == [folder / "b/c.png"]
        assert sorted(folder.iterdir()) == [folder / "a.json", folder / "b"]
        paths.remove_tree(folder)
        assert not folder.exists()
    assert sorted(paths.files_below(s3)) == ["lr1/a.json", "lr1/b/c.png"]


def test_what_another_process_wrote_is_seen(s3):
    import boto3

    file = s3 / "a"
    (s3 / "b").write_text("")
    assert list(s3.glob("*")) == [s3 / "b"]
    bucket, _, key = str(file).removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=b"1")
    assert sorted(s3.glob("*")) == [file, s3 / "b"]
    assert file.exists()


def test_what_there_is_not_in_a_store_is_refused(s3):
    for operation in ("stat", "touch"):
        with pytest.raises(NotImplementedError, match=f"no such operation: {s3}"):
            getattr(s3, operation)()
    assert not paths.is_remote("s3") and not paths.is_remote("gs/a")


def test_one_of_many_creates_a_file(s3):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda n: paths.create(s3 / "a", b"%d" % n), range(8)))
    assert sum(created) == 1
    assert (s3 / "a").read_bytes() == b"%d" % created.index(True)


def test_tensorstore_is_told_where(monkeypatch):
    assert paths.kvstore("/a/b") == {"driver": "file", "path": "/a/b"}
    assert paths.kvstore("gs://bucket/a/b") == {"driver": "gcs", "bucket": "bucket", "path": "a/b"}
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    plain = {"driver": "s3", "bucket": "bucket", "path": "a/b"}
    profile = {"aws_credentials": {"type": "default", "profile": "default"}}
    assert paths.kvstore("s3://bucket/a/b") == plain | profile
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    assert paths.kvstore("s3://bucket/a/b") == plain | {
        "endpoint": "http://localhost:1",
        "aws_region": "eu-west-1",
        "aws_credentials": {"type": "environment"},
    }


def test_a_name_for_a_path_depends_on_the_server(monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    path, digests = as_path("s3://bucket/a"), set()
    for address in ("http://localhost:1", "http://localhost:2"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        digests |= {paths.digest(path), paths.digest(path, "logs"), paths.digest(path / "b")}
        assert paths.digest(path) == paths.digest(as_path("s3://bucket/a/"))
    assert len(digests) == 6
    assert all(len(digest) == 16 for digest in digests)


def test_errors_of_the_stores_packages_are_told_apart():
    from botocore.exceptions import NoCredentialsError

    said = paths.remote_error(NoCredentialsError())
    assert said.startswith("the object store does not answer as it should (Unable to locate cred")
    assert paths.remote_error(OSError("full")) == paths.remote_error(KeyError("a")) == ""
