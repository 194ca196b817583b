"""The probes behind one interface, so that the protocol need not know which one it runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from tl.errors import UserError
from tl.probes import keras_head as head
from tl.probes import knn, logistic, ridge
from tl.probes.heads import Fit, by_chunk
from tl.probes.rows import Features, Rows


class Solver:
    """A family of heads with a hyper-parameter to choose.

    Attributes:
      name: as it appears in results.
      val_slack: how many val examples short of the best top-1 a setting may be and still be
        chosen, for a lower val cross-entropy; see `tl.probes.protocol`.
      standardises: whether it brings every feature to unit variance first.
      keeps_fit: whether what was chosen on held-out rows is not fitted again with these.
    """

    name: ClassVar[str]
    val_slack: ClassVar[int] = 0
    standardises: ClassVar[bool] = False
    keeps_fit: ClassVar[bool] = False

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "Solver":
        """Returns the solver that the fields of a config's section `probe` describe."""
        raise NotImplementedError

    def with_seed(self, seed: int) -> "Solver":
        """Returns the solver with that seed; itself where nothing in it is random."""
        return self

    def path(self, rows: Rows, num_classes: int) -> Iterator[Fit]:
        """Fits every setting, the most regular first."""
        raise NotImplementedError

    def search(
        self, train: Rows, val_features: Features, num_classes: int
    ) -> Iterator[tuple[Fit, Iterator[Float[np.ndarray, "m c"]]]]:
        """Fits every setting on `train` and gives each with its logits on val, by chunk of rows."""
        for fit in self.path(train, num_classes):
            yield fit, by_chunk(fit.head, val_features)

    def gives_up(self, at: Mapping[str, float], improved: Mapping[str, float]) -> bool:
        """Returns whether a search ends at setting `at`; `improved` is the last as good as any."""
        return False

    def untried(self, last: Mapping[str, float]) -> int:
        """Returns the number of settings that follow the last one of a search."""
        return 0

    def refit(self, fit: Fit, rows: Rows, num_classes: int) -> Fit:
        """Fits the setting of `fit` again, on other rows."""
        raise NotImplementedError


@dataclass(frozen=True)
class Logistic(Solver):
    """`tl.probes.logistic`: its docstring has the objective and the options.

    Attributes:
      l2s: strengths to choose from.
      max_iterations: for one strength.
      tolerance: of what is refitted.
      search_tolerance: of fits that are only compared on val: 1e-6 takes half the iterations and
        ends within 4e-5 of the minimal objective.
      overrun: > 1; a search ends once the strength is this many times below the last at which val
        was as good as ever (docs/measurements.md).
    """

    name: ClassVar[str] = "logistic"
    val_slack: ClassVar[int] = 1
    standardises: ClassVar[bool] = True
    l2s: Sequence[float] = logistic.L2_GRID
    max_iterations: int = 1000
    tolerance: float = 1e-8
    search_tolerance: float = 1e-6
    overrun: float = 100.0

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "Solver":
        """See `Solver`."""
        names = ("max_iterations", "tolerance", "search_tolerance", "overrun")
        return cls(fields["l2"], **{name: fields[name] for name in names})

    def __post_init__(self) -> None:
        if not self.overrun > 1:
            raise UserError(
                f"expected a factor above 1, or inf to fit all of probe.l2, got {self.overrun}",
                field="probe.overrun",
            )

    def gives_up(self, at: Mapping[str, float], improved: Mapping[str, float]) -> bool:
        """See `Solver`."""
        return at["l2"] * self.overrun <= improved["l2"] * (1 + 1e-9)

    def untried(self, last: Mapping[str, float]) -> int:
        """See `Solver`."""
        return sum(l2 < last["l2"] for l2 in set(self.l2s))

    def path(self, rows: Rows, num_classes: int) -> Iterator[Fit]:
        """See `Solver`."""
        return self._fit(rows, num_classes, self.l2s, self.search_tolerance)

    def refit(self, fit: Fit, rows: Rows, num_classes: int) -> Fit:
        """See `Solver`."""
        return next(self._fit(rows, num_classes, (fit.setting["l2"],), self.tolerance))

    def _fit(
        self, rows: Rows, num_classes: int, l2s: Sequence[float], tolerance: float
    ) -> Iterator[Fit]:
        return logistic.fit_path(
            rows.features,
            rows.labels,
            num_classes,
            l2s,
            max_iterations=self.max_iterations,
            tolerance=tolerance,
        )


@dataclass(frozen=True)
class Ridge(Solver):
    """`tl.probes.ridge`."""

    name: ClassVar[str] = "ridge"
    standardises: ClassVar[bool] = True
    l2s: Sequence[float] = logistic.L2_GRID

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "Solver":
        """See `Solver`."""
        return cls(fields["l2"])

    def path(self, rows: Rows, num_classes: int) -> Iterator[Fit]:
        """See `Solver`."""
        return ridge.fit_path(rows.features, rows.labels, num_classes, self.l2s)

    def refit(self, fit: Fit, rows: Rows, num_classes: int) -> Fit:
        """See `Solver`."""
        return next(ridge.fit_path(rows.features, rows.labels, num_classes, (fit.setting["l2"],)))


@dataclass(frozen=True)
class Knn(Solver):
    """`tl.probes.knn`."""

    name: ClassVar[str] = "knn"
    ks: Sequence[int] = knn.KS
    temperatures: Sequence[float] = knn.TEMPERATURES

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "Solver":
        """See `Solver`."""
        return cls(fields["k"], fields["temperature"])

    def path(self, rows: Rows, num_classes: int) -> Iterator[Fit]:
        """See `Solver`."""
        return knn.fit_path(rows.features, rows.labels, num_classes, self.ks, self.temperatures)

    def search(
        self, train: Rows, val_features: Features, num_classes: int
    ) -> Iterator[tuple[Fit, Iterator[Float[np.ndarray, "m c"]]]]:
        """See `Solver`; neighbours are looked up once for all settings."""
        fits = list(self.path(train, num_classes))
        return zip(fits, knn.path_logits(fits, val_features))

    def refit(self, fit: Fit, rows: Rows, num_classes: int) -> Fit:
        """See `Solver`."""
        k, temperature = int(fit.setting["k"]), fit.setting["temperature"]
        return next(knn.fit_path(rows.features, rows.labels, num_classes, (k,), (temperature,)))


@dataclass(frozen=True)
class Head(Solver):
    """`tl.probes.keras_head`: the best epoch is kept and not fitted again, as in that recipe."""

    name: ClassVar[str] = "head"
    keeps_fit: ClassVar[bool] = True
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    dropout: float = 0.3
    seed: int = 0

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "Solver":
        """See `Solver`."""
        names = ("epochs", "batch_size", "learning_rate", "dropout")
        return cls(**{name: fields[name] for name in names})

    def with_seed(self, seed: int) -> "Solver":
        """See `Solver`."""
        return replace(self, seed=seed)

    def path(self, rows: Rows, num_classes: int) -> Iterator[Fit]:
        """See `Solver`."""
        return self._fit(rows, num_classes, self.epochs)

    def refit(self, fit: Fit, rows: Rows, num_classes: int) -> Fit:
        """See `Solver`; trains for as many epochs."""
        *_, last = self._fit(rows, num_classes, int(fit.setting["epoch"]))
        return last

    def _fit(self, rows: Rows, num_classes: int, epochs: int) -> Iterator[Fit]:
        return head.fit_path(
            rows.features,
            rows.labels,
            num_classes,
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            dropout=self.dropout,
            seed=self.seed,
        )


SOLVERS: dict[str, type[Solver]] = {solver.name: solver for solver in (Logistic, Ridge, Knn, Head)}
