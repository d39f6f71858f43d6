"""The docstrings of the public names: their examples run, and there is one for each name.

The examples are read from the docstrings themselves, not found by `doctest.testmod`: equinox wraps
functions and methods, and jaxtyping's import hook wraps them again in these tests, so that a search
by module would pass over some of them.
"""

import ast
import doctest
import importlib.util
import inspect
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_origin

import equinox as eqx
import pytest

import flows
import potentials

PACKAGES = (flows, potentials)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _is_documented(value: Any) -> bool:
    """True for a class or a function of these packages, false for a constant or a type alias."""
    home = (getattr(value, "__module__", None) or "").split(".")[0]
    is_definition = inspect.isclass(value) or inspect.isroutine(value)
    return home in ("flows", "potentials") and (is_definition or hasattr(value, "__wrapped__"))


def _public() -> list[tuple[str, Any]]:
    """Public classes and functions, those of one module side by side: they compile alike."""
    found = [
        (f"{package.__name__}.{name}", getattr(package, name))
        for package in PACKAGES
        for name in package.__all__
    ]
    documented = [(name, value) for name, value in found if _is_documented(value)]
    return sorted(documented, key=lambda pair: (pair[1].__module__, pair[0]))


PUBLIC = _public()
# An example that integrates a flow compiles for up to a quarter of a minute: of these, one is
# quick, and the flows themselves have tests.
QUICK = "flows.simulate"


def _cases() -> list[Any]:
    """The public names as cases of a test, slow where the example integrates a flow."""
    slow = {n for n, value in PUBLIC if "simulate(" in (value.__doc__ or "") and n != QUICK}
    # torch is an optional extra, which the tests do without.
    without = pytest.mark.skipif(importlib.util.find_spec("torchax") is None, reason="no torchax")
    marks = {n: [pytest.mark.slow] for n in slow} | {"potentials.from_torch": [without]}
    return [pytest.param(name, value, id=name, marks=marks.get(name, [])) for name, value in PUBLIC]


def _docstrings(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The docstring of a function, or those of a class, its own methods and its properties."""
    yield name, value.__doc__ or ""
    if inspect.isclass(value):
        for member, defined in vars(value).items():
            is_method = isinstance(defined, property | classmethod | staticmethod)
            if is_method or inspect.isroutine(defined) or hasattr(defined, "__wrapped__"):
                yield f"{name}.{member}", getattr(defined, "__doc__", None) or ""


def _run_examples(name: str, value: Any) -> tuple[int, list[str]]:
    """Run the examples of one public name.

    Each docstring starts with no names at all, as a reader's session does.

    Returns:
        How many lines of the docstring of `name` itself were compared with what they print, and a
        report of each failure.
    """
    parser, reports, compared = doctest.DocTestParser(), [], {}
    for where, text in _docstrings(name, value):
        test = parser.get_doctest(text, {"__name__": "__main__"}, where, where, 0)
        runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)
        runner.run(test, out=reports.append)
        executed = [line for line in test.examples if not line.options.get(doctest.SKIP)]
        compared[where] = sum(bool(line.want) for line in executed)
    return compared[name], reports


@pytest.mark.parametrize(("name", "value"), _cases())
def test_the_examples_of_a_docstring_give_what_they_say(name, value):
    """Each public class and function has one, which prints what is written below it."""
    compared, reports = _run_examples(name, value)
    assert not reports, "".join(reports)
    assert compared, f"{name} has no example that is run and prints something"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_the_median_docstring_has_six_lines(package):
    """Of the public classes and functions of all modules, exported or not."""
    lines = []
    for path in Path(package.__file__).parent.rglob("*.py"):
        pending = list(ast.parse(path.read_text(encoding="utf-8")).body)
        while pending:
            node = pending.pop()
            is_class = isinstance(node, ast.ClassDef)
            if not (is_class or isinstance(node, ast.FunctionDef)) or node.name.startswith("_"):
                continue
            lines.append(len((ast.get_docstring(node) or "").splitlines()))
            pending += [
                inner for inner in node.body if is_class and isinstance(inner, ast.ClassDef)
            ]
    assert statistics.median(lines) >= 6


def _right() -> int:
    """An example that is right.

    Example:
        >>> 1 + 1
        2
    """
    return 2


def _wrong() -> int:
    """An example that is wrong.

    Example:
        >>> 1 + 1
        3
    """
    return 2


class _WrongMethod(eqx.Module):
    """An example that needs a name which it does not import.

    Example:
        >>> eqx.Module
        <class 'equinox...'>
    """

    def method(self) -> int:
        """An example that is wrong, in a method.

        Example:
            >>> 1 + 1
            3
        """
        return 2


def _skipped() -> int:
    """An example that is not run.

    Example:
        >>> 1 + 1  # doctest: +SKIP
        3
    """
    return 2


@pytest.mark.parametrize(
    ("value", "compared", "failures"),
    [
        (_right, 1, 0),
        (_wrong, 1, 1),
        (eqx.filter_jit(_wrong), 1, 1),
        (_WrongMethod, 1, 2),
        (_skipped, 0, 0),
    ],
    ids=["right", "wrong", "compiled", "method", "skipped"],
)
def test_a_wrong_example_is_found(value: Callable[..., Any], compared: int, failures: int):
    """In functions, compiled functions, classes and methods."""
    found, reports = _run_examples("value", value)
    assert (found, len([report for report in reports if "Failed example" in report])) == (
        compared,
        failures,
    )


def test_only_constants_and_type_aliases_are_passed_over():
    """The one class among them, `RESULTS`, is diffrax's own."""
    for package in PACKAGES:
        for name in package.__all__:
            value = getattr(package, name)
            if not _is_documented(value) and value is not flows.RESULTS:
                assert isinstance(value, str | dict) or get_origin(value) is not None, name
