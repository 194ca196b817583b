"""Writes docs/api.md, what `import tl` offers, from signatures and docstrings.

python -m tests.make_api
"""

import ast
import importlib
import inspect
import json
import re
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "api.md"

# What the page holds, in its order: a name, the module that it is in, and members of a class.
# `__init__` stands for the class's own arguments.
CONTENTS = (
    ("tl.load", "tl.inference.model", ()),
    ("tl.Model", "tl.inference.model", ("predict", "features", "all_endpoints", "widths")),
    ("tl.Predicted", "tl.inference.model", ("top",)),
    ("tl.fit_probe", "tl.inference.probe", ()),
    ("tl.Probe", "tl.inference.probe", ("predict", "probabilities")),
    ("tl.probes.held_out.Score", "tl.probes.held_out", ()),
    ("tl.open_features", "tl.features.store", ()),
    (
        "tl.features.store.FeatureStore",
        "tl.features.store",
        ("read", "labels", "ids", "errors", "complete"),
    ),
    (
        "tl.sklearn.FeatureExtractor",
        "tl.sklearn.extractor",
        ("__init__", "fit", "transform", "get_feature_names_out"),
    ),
    ("tl.weights.spec.Preprocessing", "tl.weights.spec", ()),
)

INTRODUCTION = """\
# API: `tl` from Python

<!-- Made by `python -m tests.make_api` from the docstrings; change these. -->

[Predict](predict.md#from-python) shows these names at work. This page has every argument.

- `import tl` is free: a name's module, and JAX, are imported when the name is first used.
- A mistake in what you give raises `tl.errors.UserError`, a `ValueError` that says what was
  expected, what came and what to do.
- `ImageLike` is a path, a Pillow image or an array uint8 `[H, W, 3]` in RGB or `[H, W]` in grey.
- `Float[np.ndarray, "n d"]` is a NumPy array of floats of shape `[n, d]`.
- `Arrays` is such an array of features, or a mapping from names of endpoints to such arrays.
- `tl.__version__` is the version, such as `"0.1.0"`.
"""

SECTIONS = {"Args": "Arguments", "Attributes": "Attributes", "Raises": "Raises"}
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):\n", re.MULTILINE)


class Docstring(NamedTuple):
    """A docstring's text and sections, `Args` and others, each with its lines."""

    text: str
    sections: dict[str, str]


def parsed(docstring: str) -> Docstring:
    text, *rest = _SECTION.split(docstring)
    return Docstring(text, dict(zip(rest[::2], map(textwrap.dedent, rest[1::2]), strict=True)))


def one_line(text: str) -> str:
    return " ".join(text.split())


def paragraphs(text: str) -> str:
    return "\n\n".join(one_line(part) for part in text.strip().split("\n\n"))


def entries(section: str) -> dict[str, str]:
    """Returns name to text of `name: text`, whose later lines are indented."""
    _, *rest = re.split(r"^(\w[\w, ]*): ", section, flags=re.MULTILINE)
    return dict(zip(rest[::2], map(one_line, rest[1::2]), strict=True))


def source_of(thing: Any) -> tuple[str, Any]:
    """Returns the source of a function or class, and its node."""
    source = textwrap.dedent(inspect.getsource(thing))
    return source, ast.parse(source).body[0]


def types(thing: Any) -> dict[str, str]:
    """Returns the types of arguments or attributes, as the source writes them, with defaults."""
    source, node = source_of(thing)
    found = {}
    if isinstance(node, ast.ClassDef):
        for part in node.body:
            if isinstance(part, ast.AnnAssign):
                found[ast.unparse(part.target)] = segment(source, part.annotation)
        return found
    arguments = [*node.args.posonlyargs, *node.args.args]
    defaults = [None] * (len(arguments) - len(node.args.defaults)) + node.args.defaults
    pairs = [
        *zip(arguments, defaults, strict=True),
        *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        if argument.annotation:
            kind = f"`{segment(source, argument.annotation)}`"
            said = f", default `{segment(source, default)}`" if default else ""
            found[argument.arg] = kind + valued(said, thing)
    return found


def segment(source: str, node: Any) -> str:
    return one_line(ast.get_source_segment(source, node) or "")


def signature(name: str, function: Any) -> str:
    """Returns a function's first lines as the source has them, with this name."""
    source, node = source_of(function)
    head = "\n".join(source.splitlines()[node.lineno - 1 : node.body[0].lineno - 1])
    head = re.sub(r"^def \w+", name, head).removesuffix(":")
    return valued(re.sub(r"\((\n *)?self(?:,\s*|(?=\)))", r"(\1", head), function)


def valued(text: str, function: Any) -> str:
    """Returns text with the values of a function's module in place of its CONSTANTS."""
    values = function.__globals__
    return re.sub(r"\b[A-Z][A-Z_]+\b", lambda name: json.dumps(values[name[0]]), text)


def listed(section: str, thing: Any) -> str:
    """Returns a list of arguments or attributes with their types."""
    kinds = types(thing)
    lines = []
    for names, text in entries(section).items():
        kind = ", ".join(dict.fromkeys(kinds[name] for name in names.split(", ")))
        kind = kind if "`" in kind else f"`{kind}`"
        bold = ", ".join(f"**{name}**" for name in names.split(", "))
        lines.append(f"- {bold} ({kind}): {text}")
    return "\n".join(lines)


def body(thing: Any) -> list[str]:
    """Returns the blocks of Markdown that a docstring makes."""
    text, sections = parsed(inspect.getdoc(thing) or "")
    blocks = [paragraphs(text)]
    for name, section in sections.items():
        match name:
            case "Args" | "Attributes":
                blocks += [f"{SECTIONS[name]}:", listed(section, thing)]
            case "Raises":
                raised = entries(section).items()
                blocks += ["\n".join(f"Raises `{kind}`: {said}" for kind, said in raised)]
            case _:
                blocks += [f"{name}: {one_line(section)}"]
    return blocks


def entry(name: str, module: str, members: tuple[str, ...]) -> list[str]:
    """Returns the blocks of one name of the page."""
    thing = getattr(importlib.import_module(module), name.rpartition(".")[2])
    short = name.rpartition(".")[2]
    blocks = [f"## `{name}`"]
    if not inspect.isclass(thing):
        return [*blocks, fenced(signature(name, thing)), *body(thing)]
    blocks += body(thing)
    for member in members:
        found = inspect.getattr_static(thing, member)
        if member == "__init__":
            blocks += [fenced(signature(short, found).removesuffix(" -> None")), *body(found)]
        elif isinstance(found, property):
            blocks += [f"### `{short}.{member}`", "A property. " + body(found)[0]]
        else:
            call = f"{short}.{member}"
            blocks += [f"### `{call}`", fenced(signature(call, found)), *body(found)]
    return blocks


def fenced(text: str) -> str:
    return f"```python\n{text}\n```"


def page() -> str:
    """Returns the whole page."""
    links = [f"[`{name}`](#{name.replace('.', '').lower()})" for name, *_ in CONTENTS]
    blocks = ["On this page: " + ",\n".join(links) + "."]
    blocks += [block for contents in CONTENTS for block in entry(*contents)]
    return INTRODUCTION + "\n" + "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
