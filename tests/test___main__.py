import subprocess
import sys

from tests.commands import ROOT


def tl(*arguments, folder=ROOT, status=0):
    """Returns what the command prints, to stderr where it is to fail."""
    found = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
         "from tl.__main__ import main; main()", *arguments],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == status, found.stderr
    return found.stdout if status == 0 else found.stderr


def test_help_lists_every_command():
    listed = tl("--help")
    commands = {path.stem for path in (ROOT / "experiments").iterdir() if path.stem[0] != "_"}
    assert {line.split()[0] for line in listed.splitlines()[2:]} == commands
    assert tl() == listed
    assert "predict    Predicts on images without labels" in listed


def test_version():
    assert tl("--version") == "0.1.0\n"


def test_a_command_is_run_from_another_folder(tmp_path):
    assert "efficientnet_lite0" in tl("weights", "list", folder=tmp_path)
    error = tl("probe", "--config=quickstart", "--config.lr=1", folder=tmp_path, status=2)
    assert "it is --config.optim.learning_rate" in error


def test_mistakes():
    assert tl("prob", status=2) == "error: no command is called 'prob'; the nearest are 'probe'\n"
