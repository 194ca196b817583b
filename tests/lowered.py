"""What a function becomes on a platform that need not be there."""

import collections

import jax


def operations(function, *arguments, platform="cuda"):
    """Returns how often each operation of a lowered function occurs, and the grouped convolutions.

    A branch that can be taken on other platforms alone fails the test: what is left of a choice
    between platforms has one branch, which XLA puts in its place, or gives a number.

    Args:
      function: to be jitted.
      *arguments: of it; shapes and types are enough.
      platform: to lower for.

    Returns:
      (name without `stablehlo.` -> count, feature groups of every convolution that has several).
    """
    module = jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,))
    counts, groups = collections.Counter(), []
    for op in _within(module.compiler_ir("stablehlo").operation):
        counts[op.name.removeprefix("stablehlo.")] += 1
        if op.name == "stablehlo.case" and len(op.regions) > 1:
            inside = {inner.name for inner in _within(op)}
            assert inside == {"stablehlo.constant", "stablehlo.return"}, inside
        if op.name == "stablehlo.convolution":
            groups.append(op.attributes["feature_group_count"].value)
    return counts, [n for n in groups if n > 1]


def _within(op):
    for region in op.regions:
        for block in region:
            for inner in block:
                yield inner.operation
                yield from _within(inner.operation)
