"""What all commands share: flags, and errors that a person can read."""

import contextlib
import errno
import importlib
import logging
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import ml_collections
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from tl import paths
from tl.errors import Stopped, UserError, nearest
from tl.fields import flat
from tl.results.called import as_called
from tl.results.formats import shell_word
from tl.runs import supervisor, workdir
from tl.runs.field_help import field_help

# Errors of the disk that a user can mend.
_OF_THE_DISK = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP,
}  # fmt: skip
# What other programs call a field, and people who are used to them.
SYNONYMS = {
    "lr": "optim.learning_rate",
    "learning_rate": "optim.learning_rate",
    "wd": "optim.weight_decay",
    "weight_decay": "optim.weight_decay",
    "optimizer": "optim.name",
    "momentum": "optim.momentum",
    "bs": "train.batch_size",
    "batch_size": "train.batch_size",
    "epochs": "train.epochs",
    "steps": "train.steps",
    "loss": "train.loss",
    "model": "weights",
    "network": "weights",
    "backbone": "weights",
    "dataset": "data.name",
    "data_dir": "data.data_dir",
    "image_size": "preprocess.size",
    "seed": "seeds",
    "layers": "endpoints",
    "workers": "extract.threads",
    "num_workers": "extract.threads",
    "freeze": "train.freeze",
    "mixup": "augment.mixup",
}
CLUSTER_FLAGS = ("multihost", "coordinator", "num_processes", "process_id", "heartbeat")
RUN_FLAGS = ("config", "workdir", "overwrite")


def define_run_flags() -> None:
    """Defines --config=FILE with its --config.FIELD=VALUE, other RUN_FLAGS and CLUSTER_FLAGS."""
    define_config_flag()
    flags.DEFINE_string(
        "workdir", None, "Folder the run writes to; runs/<config>-<date>-<time> where not given."
    )
    flags.DEFINE_bool("overwrite", False, "Replace the run in --workdir, once this one is valid.")
    _show_in_help(RUN_FLAGS)
    define_cluster_flags()


def define_config_flag() -> None:
    """Defines --config=FILE with its --config.FIELD=VALUE."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        "Python file with get_config(); its fields are --config.FIELD=VALUE, and --help beside it "
        "lists them.",
    )
    _show_in_help(("config",))


def define_cluster_flags() -> None:
    """Defines CLUSTER_FLAGS."""
    flags.DEFINE_bool("multihost", False, "Join the same command on the cluster's other hosts.")
    flags.DEFINE_string(
        "coordinator", "", "HOST:PORT of process 0, of a cluster that JAX does not find by itself."
    )
    flags.DEFINE_integer("num_processes", None, "With --coordinator: how many there are.")
    flags.DEFINE_integer("process_id", None, "With --coordinator: which one this is, from 0 on.")
    flags.DEFINE_integer(
        "heartbeat",
        60,
        "With several hosts: seconds without a sign of life, after which one counts as gone.",
        lower_bound=5,
    )
    _show_in_help(CLUSTER_FLAGS)


def _show_in_help(names: Sequence[str]) -> None:
    """Puts flags beside the command's own in --help."""
    for name in names:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


def join_hosts() -> None:
    """Joins the other hosts where the flags say so. Of the processes only the first then speaks.

    Raises:
      UserError: there is no such cluster, or the others did not come.
    """
    if not _several_hosts():
        return
    from tl import hosts

    values = flags.FLAGS
    supervisor.end_with_parent()
    hosts.join(values.coordinator, values.num_processes, values.process_id, values.heartbeat)
    if not hosts.is_first():
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        logging.getLogger("tl").setLevel(logging.ERROR)


def _several_hosts() -> bool:
    """Returns whether this command joins other hosts.

    Raises:
      UserError: no --workdir; only some of the flags that name a cluster, or with odd values.
    """
    if not set(CLUSTER_FLAGS) <= set(flags.FLAGS):
        return False
    values = flags.FLAGS
    address, number, count = values.coordinator, values.process_id, values.num_processes
    if not address and number is None and count is None and not values.multihost:
        return False
    if "config" in values and not values.workdir:
        raise UserError("--multihost needs --workdir=FOLDER, one that all hosts can write")
    if not address and number is None and count is None:
        return True
    if not address or number is None or count is None:
        raise UserError("--coordinator, --num_processes and --process_id are given together")
    if not re.fullmatch(r".+:\d+", address) or not 0 <= number < count:
        raise UserError(
            "expected --coordinator=HOST:PORT and a --process_id from 0 to --num_processes less 1, "
            f"got {address!r} and {number} of {count}"
        )
    return True


def start_run(*, resumable: bool = False) -> tuple[ml_collections.ConfigDict, Path]:
    """Returns the config and the run's folder (`tl.runs.workdir.start`).

    From now on compiled programs are kept for later runs (`tl.runs.compile_cache`). Where the run
    is finished but for its page, makes that and ends the process.

    Raises:
      UserError: --multihost without --workdir; or see `tl.runs.workdir.start`.
    """
    from tl import devices, hosts  # import JAX, which a misspelt flag need not wait for
    from tl.runs import compile_cache
    from tl.weights.fetch import cache_root

    values = flags.FLAGS
    devices.divide_cpu()
    join_hosts()
    asked = paths.as_path(values.workdir or "")
    replaced = not values.workdir or values.overwrite
    lacking = not replaced and workdir.lacks_page(values.config, asked)
    if hosts.broadcast(int(lacking)):  # process 0 makes it, and the others must not look later
        from tl.runs import outcome

        print(f"{asked} holds this run, finished but for its page")
        outcome.write_report(True, asked, print)
        sys.exit()
    name = Path(config_flags.get_config_filename(values["config"])).stem
    path = workdir.start(
        values.config, values.workdir, name, overwrite=values.overwrite, resumable=resumable
    )
    compile_cache.enable(cache_root())
    return values.config, path


def run(
    main: Callable[[Sequence[str]], object], field_flags: Mapping[str, str] | None = None
) -> None:
    """Runs `main(positional arguments)`; a user's mistake is one message and exit status 2.

    A command that joins other hosts runs in a child (`tl.runs.supervisor`).

    Args:
      main: the command.
      field_flags: the flag that stands for a field, without dashes, in a command that has no
        config.
    """
    command = sys.modules["__main__"]
    command.__doc__ = as_called(command.__doc__ or "")  # which --help shows
    absl_logging.use_absl_handler()
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    ours = logging.getLogger("tl")  # what the library does, without dates and file names
    ours.setLevel(logging.INFO)
    ours.propagate = False
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines(lambda: field_flags or _flags_of_fields()))
    ours.addHandler(handler)

    def guarded(argv: Sequence[str]) -> None:
        try:
            if _several_hosts() and not supervisor.is_child():
                supervisor.run()
            with _loss_explained():
                main(argv[1:])
        except UserError as error:
            workdir.remove_new()
            _fail(with_flags(error, field_flags or _flags_of_fields()))
        except Stopped as stopped:  # by an agreement of all processes, where there are several
            print(stopped, file=sys.stderr)
            sys.exit(stopped.status)
        except KeyboardInterrupt:
            workdir.remove_new()
            _end(130)
        except BrokenPipeError:  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception as error:
            if text := paths.remote_error(error):
                workdir.remove_new()
                _fail(text)
            if not isinstance(error, OSError) or error.errno not in _OF_THE_DISK:
                _crash()
            _fail(
                f"{error.filename or 'a file'} cannot be written or read: {error.strerror}; mend "
                "that and give the same command again"
            )

    app.run(guarded, flags_parser=_parse_flags)


@contextlib.contextmanager
def _loss_explained() -> Iterator[None]:
    """Within it, an error that comes from the loss of another process is left to JAX to explain."""
    try:
        yield
    except Exception as error:
        if supervisor.is_child():
            from tl import hosts

            hosts.wait_if_lost(error, flags.FLAGS.heartbeat)
        raise


def with_flags(error: UserError, flag_of: Mapping[str, str]) -> str:
    """Returns an error's text with every field of a config as the flag that sets it.

    >>> error = UserError("expected `head=zero`", field="start")
    >>> with_flags(error, {"start": "config.start", "head": "config.head"})
    '--config.start: expected --config.head=zero'

    Args:
      error: see `UserError` for how it names fields.
      flag_of: field to its flag, without dashes; of other names nothing changes.
    """
    text = str(error)
    if error.field in flag_of:
        text = f"--{flag_of[error.field]}{text.removeprefix(error.field)}"
    return _as_flags(text, flag_of)


def _as_flags(text: str, flag_of: Mapping[str, str]) -> str:
    """Returns a text with the fields in backquotes as flags."""

    def flag(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"] or ""
        return shell_word(f"--{flag_of[name]}{value}") if name in flag_of else match[0]

    return re.sub(r"`(?P<name>[\w.]+)(?P<value>=[^`]*)?`", flag, text)


class _Lines(logging.Formatter):
    """Lines of the log: warnings are called so, and fields are flags."""

    def __init__(self, flag_of: Callable[[], Mapping[str, str]]):
        super().__init__()
        self._flag_of = flag_of

    def format(self, record: logging.LogRecord) -> str:
        text = as_called(_as_flags(super().format(record), self._flag_of()))
        return f"warning: {text}" if record.levelno >= logging.WARNING else text


def _flags_of_fields() -> dict[str, str]:
    """Returns the flag of every field of this command's config; a study's runs have theirs."""
    if "config" not in flags.FLAGS:
        return {}
    fields = flat(flags.FLAGS.config)
    return {name.removeprefix("base."): f"config.{name}" for name in fields}


def _fail(error: object) -> NoReturn:
    print(f"error: {as_called(str(error))}", file=sys.stderr)
    _end(2)


def _crash() -> NoReturn:
    """Raises the exception being handled; of several processes, shows it and ends at once."""
    if not supervisor.is_child():
        raise
    traceback.print_exc()
    _end(1)


def _end(status: int) -> NoReturn:
    """Ends the process; of several, at once: JAX would wait for the others, and they for this."""
    if supervisor.is_child():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _parse_flags(argv: Sequence[str]) -> list[str]:
    """Checks the config, so that its errors are messages, then runs absl's parser."""
    try:
        if "config" not in flags.FLAGS:
            return flags.FLAGS(argv)
        argv = _with_config_files(argv)
        _check_config(argv)
        remaining = flags.FLAGS(argv)
        if remaining[1:]:  # such as `--config.data.download false`, which would switch it on
            raise UserError(f"expected flags such as --config.FIELD=VALUE, got {remaining[1]!r}")
        return remaining
    except flags.UnrecognizedFlagError as error:
        names = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])]
        _fail(f"no flag is called --{error.flagname}{nearest(error.flagname, names)}")
    except (flags.Error, UserError) as error:
        _fail(error)
    except BrokenPipeError:  # the reader of --help has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _with_config_files(argv: Sequence[str]) -> list[str]:
    """Returns the arguments with --config=NAME as the file of that name."""
    found = list(argv)
    for place, argument in enumerate(argv):
        if argument.lstrip("-") == "config" and argument.startswith("-") and argv[place + 1 :]:
            found[place + 1] = _config_file(argv[place + 1])
        elif re.match(r"--?config=", argument):
            flag, _, name = argument.partition("=")
            found[place] = f"{flag}={_config_file(name)}"
    return found


def _config_file(name: str) -> str:
    """Returns a config's file: a path, or a name in ./configs or among those that come with tl."""
    ours = [Path(folder) for folder in importlib.import_module("configs").__path__]
    candidates = [
        Path(name),
        *(folder / f"{name}.py" for folder in (Path("configs"), *ours)),
        *(folder.parent / name for folder in ours),  # configs/NAME.py, from another folder
    ]
    return str(next((path for path in candidates if path.is_file()), name))


def _check_config(argv: Sequence[str]) -> None:
    """Checks file, field names and the types inside tuples, which ml_collections leaves open."""
    wants_help = any(a.lstrip("-").startswith("help") for a in argv[1:] if a.startswith("-"))
    given = [
        (name.lstrip("-"), value if equals else following)  # --name=value or --name value
        for argument, following in zip(argv[1:], [*argv[2:], ""])
        if argument.startswith(("-config", "--config"))
        for name, equals, value in [argument.partition("=")]
    ]
    files = [value for name, value in given if name == "config"]
    if wants_help:
        if files:
            common = Path(importlib.import_module("configs.common").__file__ or "")
            print(f"Fields of {files[-1]}:")
            print(field_help(_read_config(files[-1]), common.read_text()) + "\n")
        return
    if not files:
        raise UserError(f"which run? Give --config=FILE{_config_files()}")
    config = _read_config(files[-1])
    for name, value in given:
        if name.startswith("config."):
            _check_field(config, name.removeprefix("config."), value)


def _read_config(path: str) -> ml_collections.ConfigDict:
    if not os.path.isfile(path):
        raise UserError(f"no config file is called {path!r}{_config_files()}")
    try:
        get_config = runpy.run_path(path).get("get_config")
        if get_config is not None:
            return get_config()
    except Exception as error:
        raise UserError(f"{path} does not run: {type(error).__name__}: {error}") from error
    raise UserError(f"{path} has no function get_config()")


def _config_files() -> str:
    folders = [Path("configs"), *map(Path, importlib.import_module("configs").__path__)]
    names = {path.stem for folder in folders for path in folder.glob("[!_]*.py")}
    return "; there are " + ", ".join(sorted(names)) if names else ""


def _check_field(config: ml_collections.ConfigDict, field: str, value: str) -> None:
    fields = flat(config)
    if field not in fields:
        if (meant := SYNONYMS.get(field.rpartition(".")[2])) in fields:
            raise UserError(f"no field is called --config.{field}; it is --config.{meant}")
        near = nearest(f"--config.{field}", [f"--config.{name}" for name in fields])
        raise UserError(f"no field is called --config.{field}{near}")
    default = fields[field]
    kinds = {type(item) for item in default} if isinstance(default, tuple) else set()
    if len(kinds) == 1 and (kind := kinds.pop()) in (int, float):
        for item in value.strip("() ,").split(","):
            try:
                kind(item)
            except ValueError:
                raise UserError(
                    f"--config.{field} takes {kind.__name__} values such as {default[:3]}, got "
                    f"{value!r}"
                ) from None
