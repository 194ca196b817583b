"""L2 multinomial logistic regression over a path of strengths, by L-BFGS (optax).

The objective is scikit-learn's with C = 1 / (N l2) (for two classes, which scikit-learn fits with
one weight vector w = K[:, 1] - K[:, 0] in place of our symmetric two, C = 2 / (N l2)):

    mean_n cross_entropy(z_n K + b, label_n) + l2/2 |K|^2,    z = standardised features, b free.

What makes a path cheap, each measured on features of CIFAR-10 patches, N = 5,000, D = 1,024:
  * the problem is solved in principal axes (`tl.probes.principal`), at most min(N, D) of them;
  * there the Hessian is near diag(c variance + l2), c the mean of p (1 - p) over rows and classes,
    so L-BFGS runs in coordinates scaled by its root. A Cholesky factor of the class-averaged
    Hessian instead would save 7 % of the iterations and cost a Gram matrix a strength;
  * each strength starts from an extrapolation of the solutions before it (1,351 iterations
    from the last solution, 745 extrapolated linearly, 480-645 with higher orders, of which the
    mean of linear and quadratic, 559, is best or near it on every problem tried);
  * rows and columns of small problems are padded to few sizes, so a study's many problems share
    compiled programs, each of which takes 1-2 s to compile. Few, but not coarse: 1,281 columns
    padded to 2,048 would make a path of 5,000 rows 1.3 times as long as padded to 1,408;
  * rows lie divided over all devices and are looked at by chunk (`tl.probes.device_rows`).
The whole default path at 50,000 x 2,048 (10 classes, two cores that others used too), tolerance
1e-6: 60 s and 2.1 GB at the peak (`experiments.benchmark`); CIFAR-10 patches 40 s, and 115 s and
474 iterations at 1e-8, of which 13-27 s go into the principal axes.
"""

import functools
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from tl.errors import UserError
from tl.probes.device_rows import DeviceRows, bucket, summed
from tl.probes.heads import Fit, Linear
from tl.probes.principal import moments, principal_axes
from tl.probes.rows import Features

# SimCLR, appendix B.8, after Kornblith et al. 2019: 45 values, evenly spaced in log l2.
L2_GRID = tuple(float(l2) for l2 in np.logspace(5, -6, 45))

# Of a strength that nobody asked for, fitted only as a start for the next.
STEPPING_STONE_TOLERANCE = 1e-5

# From so many rows on a path takes longer than its compiling; columns are then padded to 16.
_MANY = 16_384

ABSENT_BIAS = -1e4  # of a class without training rows, whose optimal bias is minus infinity

Solution = tuple[float, np.ndarray]  # log l2 and weights float32 [C, R]
Carry = tuple[Array, Array, optax.OptState, Array]  # iteration, scaled weights, state, converged


def fit_path(
    x: Features,
    labels: Int[np.ndarray, " n"],
    num_classes: int,
    l2s: Sequence[float] = L2_GRID,
    *,
    max_iterations: int = 1000,
    tolerance: float = 1e-8,
) -> Iterator[Fit[Linear]]:
    """Fits every strength, strongest first, each starting from those before it.

    A fit has converged when g^T P^-1 g / 2 <= tolerance * objective, where g is the gradient and P
    the diagonal approximation of the Hessian above: the left side estimates how far the objective
    lies above its minimum. (Where the penalty is below a hundredth of the objective it takes
    the place of that hundredth, so that the small logits of strong penalties settle as well.) The
    estimate is low where P is far from the Hessian, at weak penalties on nearly separable rows:
    the true distance was at most 40 times the tolerance on all problems tried but one, 500 times
    on that one.

    Args:
      x: float [N, D], raw features.
      labels: int [N], 0..num_classes-1; at least two different ones.
      num_classes: C; classes without a row are never predicted.
      l2s: strengths, > 0, in any order.
      max_iterations: of L-BFGS, for one strength.
      tolerance: relative, see above; 1e-10 can be reached in float32.

    Yields:
      Fit with setting {'l2': ...}; objective as above.

    Raises:
      UserError: fewer than two classes, a strength that is not positive, non-finite features.
    """
    if min(l2s) <= 0:
        raise UserError(
            f"expected above 0, got {min(l2s)}; give a small one, such as 1e-6", field="probe.l2"
        )
    present, targets = np.unique(labels, return_inverse=True)
    if len(present) < 2:
        raise UserError(
            f"expected training rows of at least two classes, got only class {present.tolist()}"
        )
    basis = principal_axes(x, moments(x, targets, len(present)))
    rank = len(basis.variance)
    # A column of ones for the intercept, and zeros.
    width = bucket(rank + 1) if len(x) < _MANY else -(-(rank + 1) // 16) * 16

    def read(rows: slice) -> Float[np.ndarray, "m r"]:
        found = np.zeros((rows.stop - rows.start, width), np.float32)
        found[:, :rank] = basis.coordinates(x[rows])
        found[:, -1] = 1
        return found

    rows = DeviceRows.place(read, targets, width, len(present))
    variance = np.zeros(width, np.float32)
    variance[:rank], variance[-1] = basis.variance, 1
    wanted = set(l2s)
    path: list[Solution] = []
    for l2 in _with_stepping_stones(sorted(wanted, reverse=True)):
        start = _extrapolate(path, math.log(l2), (len(present), width))
        enough = tolerance if l2 in wanted else max(tolerance, STEPPING_STONE_TOLERANCE)
        minimum, objective, iterations, converged = _minimise(
            rows.features,
            rows.labels,
            np.float32(len(x)),
            variance,
            start,
            np.float32(l2),
            enough,
            max_iterations,
            mesh=rows.mesh,
            chunk=rows.chunk,
        )
        weights = np.asarray(minimum)
        path = [*path[-2:], (math.log(l2), weights)]
        if l2 not in wanted:
            continue
        fitted = basis.head(weights[:, :rank].T.astype(np.float64), weights[:, -1])
        yield Fit(
            setting={"l2": l2},
            head=_with_absent_classes(fitted, present, num_classes),
            objective=float(objective),
            iterations=int(iterations),
            converged=bool(converged),
        )


@functools.partial(jax.jit, static_argnames=("mesh", "chunk"))
def _minimise(
    features: Float[Array, "n r"],
    labels: Int[Array, " n"],
    count: Float[Array, ""],
    variance: Float[Array, " r"],
    start: Float[Array, "c r"],
    l2: Float[Array, ""],
    tolerance: Float[Array, ""],
    max_iterations: Int[Array, ""],
    *,
    mesh: Mesh,
    chunk: int,
) -> tuple[Float[Array, "c r"], Float[Array, ""], Int[Array, ""], Bool[Array, ""]]:
    """Minimises the objective from `start` [C, R]; the last of the R columns is the intercept.

    Weights are [C, R], not [R, C]: XLA's CPU backend then computes the gradient's product
    7-10 times faster.
    """
    sums = summed(_sums, mesh, chunk)
    penalty = jnp.full(features.shape[1], l2).at[-1].set(0.0)
    # At the start the mean loss is not computed again for the first step.
    loss, grad, spread = (total / count for total in sums(features, labels, start))
    # One curvature for all classes keeps the weights' sum over classes zero, as at the minimum. The
    # loss does not feel that sum, so a gradient along it would hide behind a curvature not there.
    curvature = spread / len(start)
    scale = jax.lax.rsqrt(curvature * variance + penalty + 1e-12)  # padding has neither of both

    def shrinkage(scaled: Float[Array, "c r"]) -> Float[Array, ""]:
        return jnp.sum(penalty * (scaled * scale) ** 2) / 2

    @jax.custom_vjp
    def mean_loss(weights: Float[Array, "c r"]) -> Float[Array, ""]:
        return forward(weights)[0]

    def forward(weights: Float[Array, "c r"]) -> tuple[Float[Array, ""], Float[Array, "c r"]]:
        loss, grad, _ = sums(features, labels, weights)
        return loss / count, grad / count

    mean_loss.defvjp(forward, lambda grad, slope: (slope * grad,))

    def objective(scaled: Float[Array, "c r"]) -> Float[Array, ""]:
        return mean_loss(scaled * scale) + shrinkage(scaled)

    value_and_grad = optax.value_and_grad_from_state(objective)
    solver = optax.lbfgs()

    def unfinished(carry: Carry) -> Bool[Array, ""]:
        iteration, _, _, converged = carry
        return ~converged & (iteration < max_iterations)

    def step(carry: Carry) -> Carry:
        iteration, scaled, state, _ = carry
        value, grad = value_and_grad(scaled, state=state)
        updates, state = solver.update(
            grad, state, scaled, value=value, grad=grad, value_fn=objective
        )
        scaled = optax.apply_updates(scaled, updates)
        distance = jnp.sum(optax.tree.get(state, "grad") ** 2) / 2
        value = optax.tree.get(state, "value")
        limit = jnp.minimum(value, 100 * shrinkage(scaled) + value / 100)
        return iteration + 1, scaled, state, distance <= tolerance * limit

    scaled = start / scale
    state = optax.tree.set(
        solver.init(scaled),
        value=loss + shrinkage(scaled),
        grad=grad * scale + jax.grad(shrinkage)(scaled),
    )
    iterations, scaled, state, converged = jax.lax.while_loop(
        unfinished, step, (jnp.int32(0), scaled, state, jnp.bool_(False))
    )
    return scaled * scale, optax.tree.get(state, "value"), iterations, converged


def _sums(
    features: Float[Array, "n r"], labels: Int[Array, " n"], weights: Float[Array, "c r"]
) -> tuple[Float[Array, ""], Float[Array, "c r"], Float[Array, ""]]:
    """Returns sums over rows: of the cross-entropy, of its gradient, and of p (1 - p).

    The cross-entropy is softplus(logsumexp of the other classes' margins): log softmax at the label
    would lose all digits of the tiny losses that weak penalties lead to.
    """
    # 'highest': accelerators would round float32 factors to fewer bits.
    logits = jnp.matmul(features, weights.T, precision="highest")
    is_label = labels[:, None] == jnp.arange(len(weights))
    real = labels >= 0
    own = jnp.sum(jnp.where(is_label, logits, 0), axis=1, keepdims=True)
    margins = jnp.where(is_label, -jnp.inf, logits - own)
    top = jnp.max(margins, axis=1, keepdims=True)
    odds = jax.lax.optimization_barrier(jnp.exp(margins - top))  # else computed twice
    total = jnp.sum(odds, axis=1, keepdims=True)
    others = jnp.log(total) + top
    loss = jnp.where(real[:, None], jax.nn.softplus(others), 0)
    wrong = jnp.where(real[:, None], jax.nn.sigmoid(others), 0)  # probability of all but the label
    residual = jnp.where(is_label, -wrong, odds * (wrong / total))
    distance = jnp.abs(residual)  # p of other classes, 1 - p of the label
    grad = jnp.matmul(residual.T, features, precision="highest")
    return jnp.sum(loss), grad, jnp.sum(distance * (1 - distance))


def _with_stepping_stones(l2s: Sequence[float]) -> Iterator[float]:
    """Descending strengths from 10 down to the last of `l2s`, never more than tenfold apart.

    A weak penalty met from far away would be judged by the curvature of another problem: fitted
    from zero, l2 = 1e-6 stopped 3 % above the minimum.
    """
    above = 100.0
    for l2 in l2s:
        stones = max(0, math.ceil(math.log10(above / l2) - 1e-6) - 1)
        yield from (above * (l2 / above) ** (i / (stones + 1)) for i in range(1, stones + 1))
        yield l2
        above = l2


def _extrapolate(
    path: Sequence[Solution], at: float, shape: tuple[int, int]
) -> Float[np.ndarray, "c r"]:
    """Returns the start at log l2 = `at`: mean of the linear and the quadratic extrapolation."""
    if not path:
        return np.zeros(shape, np.float32)
    if len(path) > 1:  # never further than the last step: a gap in the grid must not be leapt
        at = max(at, 2 * path[-1][0] - path[-2][0])
    return (_lagrange(path[-2:], at) + _lagrange(path[-3:], at)) / 2


def _lagrange(points: Sequence[Solution], at: float) -> Float[np.ndarray, "c r"]:
    nodes = [node for node, _ in points]
    factors = [
        math.prod((at - other) / (node - other) for other in nodes if other != node)
        for node in nodes
    ]
    values = [np.float32(factor) * value for factor, (_, value) in zip(factors, points)]
    return functools.reduce(np.add, values)


def _with_absent_classes(
    head: Linear, present: Int[np.ndarray, " present"], num_classes: int
) -> Linear:
    kernel = np.zeros((len(head.kernel), num_classes), np.float32)
    bias = np.full(num_classes, ABSENT_BIAS, np.float32)
    kernel[:, present] = head.kernel
    bias[present] = head.bias
    return Linear(kernel, bias)
