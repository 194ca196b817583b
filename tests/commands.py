"""An entry point as a user starts it: in a process of its own, in the repository's root.

The process is a fork of one that has imported what commands import, which takes them two seconds.
"""

import atexit
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]

_FORKS = multiprocessing.get_context("forkserver")
# Not what defines flags of one command, nor what asks JAX for devices.
_FORKS.set_forkserver_preload(
    ["tests.commands", "tl.runs.finetune", "tl.runs.probe", "tl.advice.run", "tl.studies.work"]
)


def run(module, *arguments, status=0):
    """Returns what a command prints, to stderr where it is to fail with `status`."""
    done = finish(module, *arguments)
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def finish(module, *arguments):
    """Returns how a command ended, as `subprocess.run` does, with what it printed as text."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [module, *map(str, arguments)]
        process = _FORKS.Process(
            target=_main, args=(command, dict(os.environ), _dup(out), _dup(err))
        )
        process.start()
        process.join()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(command, process.exitcode, out.read(), err.read())


def _dup(file):
    return multiprocessing.reduction.DupFd(file.fileno())


def _main(command, environment, out, err):
    """Runs a module as `python -m` does."""
    for stream, file in ((1, out), (2, err)):
        os.dup2(file.detach(), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = command
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which a process that was forked leaves out
