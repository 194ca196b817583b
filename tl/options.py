"""A config's fields as the library's own objects, checked before anything is computed."""

from pathlib import Path

from ml_collections import ConfigDict

from tl.endpoints import Extraction
from tl.errors import UserError, nearest
from tl.probes.solvers import SOLVERS, Solver
from tl.weights.fetch import cache_root


def check_lists(config: ConfigDict) -> None:
    """Raises UserError where nothing is asked for, or something twice."""
    lists = {
        "endpoints": config.endpoints,
        "seeds": config.seeds,
        "data.examples_per_class": config.data.examples_per_class,
        **{f"probe.{name}": config.probe[name] for name in ("solvers", "l2", "k", "temperature")},
    }
    for field, values in lists.items():
        if not values or len(set(values)) < len(values):
            raise UserError(f"expected --config.{field} to be one or more, each once; got {values}")
    if min(config.seeds) < 0:
        raise UserError(f"expected --config.seeds of at least 0, got {config.seeds}")


def extraction(config: ConfigDict) -> Extraction:
    """Returns what to extract: every part of `config.endpoints` once.

    Raises:
      UserError: a value that cannot be used.
    """
    fields = config.extract
    for name in ("threads", "verify_rows"):
        if fields[name] < 0:
            raise UserError(f"expected --config.extract.{name} >= 0, got {fields[name]}")
    parts = [part for endpoint in config.endpoints for part in endpoint.split("+")]
    return Extraction(
        endpoints=tuple(dict.fromkeys(parts)),
        pooling=fields.pooling,
        dtype=fields.dtype,
        batch_size=fields.batch_size,
        fold_batch_norm=fields.fold_batch_norm,
        mapper=fields.mapper,
        threads=fields.threads,
    )


def feature_root(config: ConfigDict) -> Path:
    """Returns the directory of all feature stores."""
    chosen = config.extract.feature_dir
    return Path(chosen).expanduser() if chosen else cache_root() / "features"


def solvers(config: ConfigDict) -> list[Solver]:
    """Returns the solvers to choose from.

    Raises:
      UserError: no solver has that name.
    """
    fields = config.probe
    arguments = {
        "logistic": {
            "l2s": fields.l2,
            "max_iterations": fields.max_iterations,
            "tolerance": fields.tolerance,
            "search_tolerance": fields.search_tolerance,
        },
        "ridge": {"l2s": fields.l2},
        "knn": {"ks": fields.k, "temperatures": fields.temperature},
        "head": {
            "epochs": fields.epochs,
            "batch_size": fields.batch_size,
            "learning_rate": fields.learning_rate,
            "dropout": fields.dropout,
        },
    }
    for name in fields.solvers:
        if name not in SOLVERS:
            raise UserError(f"no solver is called {name!r}{nearest(name, SOLVERS)}")
    return [SOLVERS[name](**arguments[name]) for name in fields.solvers]
