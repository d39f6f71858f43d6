"""The documentation's own tools: each check finds its fault; `make docs` runs the pages."""

import inspect
import sys
from pathlib import Path

import pytest

import flows

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "pages").rglob("*.md"))


@pytest.fixture(autouse=True)
def _tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tools are scripts of docs/, no package."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))


def write(path: Path, text: str) -> Path:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_blocks_run_in_sessions_and_are_replaced_by_what_they_print(tmp_path):
    """Source above, text as it is, Markdown, and no hidden code."""
    import execute

    page = write(
        tmp_path / "page.md",
        'Before\n\n```python exec="on" source="above" session="a" result="text"\n'
        'x = 2\nprint(x)\n```\n\n```python exec="on" session="a"\nprint(f"**{x + 1}**")\n```\n'
        "\n```python\nnot run\n```\n",
    )
    shown = execute.run_page(page)
    assert "```python\nx = 2\nprint(x)\n```\n\n```text\n2\n```\n" in shown
    assert "**3**" in shown
    assert "x + 1" not in shown
    assert shown.startswith("Before\n")
    assert shown.endswith("```python\nnot run\n```\n")


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ('```python exec="on"\n1 / 0\n```\n', r"line 2[^`]*ZeroDivisionError"),
        ('```python exec="on"\nimport warnings\nwarnings.warn("careful")\n```\n', "careful"),
        ('```python exec="on" result="html"\n1\n```\n', "result='html' is no option"),
        ('```python exec="on"\n1\n', "does not end"),
        ('```bash exec="on"\nls\n```\n', "is not ```python"),
    ],
    ids=["raises", "warns", "option", "open", "language"],
)
def test_a_bad_block_fails(tmp_path, block, complaint):
    """With the line of the page, or the option that is wrong."""
    import execute

    with pytest.raises(execute.BlockError, match=complaint):
        execute.run_page(write(tmp_path / "page.md", block))


def test_a_failed_page_is_reported_and_left_as_it_was(tmp_path):
    """The build goes on to report the other pages."""
    import execute

    page = write(tmp_path / "page.md", '```python exec="on"\nraise ValueError("no")\n```\n')
    (failure,) = execute.run_group([page])
    assert "page.md" in failure
    assert "ValueError: no" in failure
    assert "exec=" in page.read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_of_the_pages_are_understood_and_compile(page):
    """`make docs` runs them."""
    import execute

    for block in execute.blocks_of(page.read_text("utf-8")):
        assert compile(block.code, str(page), "exec").co_filename == str(page)


def test_dead_links_are_found(tmp_path):
    """Files and anchors that are not there."""
    checks = pytest.importorskip("checks")
    write(tmp_path / "a" / "there.html", '<h2 id="part">x</h2>')
    write(
        tmp_path / "index.html",
        '<a href="a/there.html#part">1</a><a href="a/there.html#gone">2</a>'
        '<a href="gone.html">3</a><a href="https://example.org/x">4</a>'
        '<a href="#top">5</a><p id="top"></p>',
    )
    assert checks.dead_links(tmp_path) == [
        "index.html links to a/there.html#gone; there is no such anchor.",
        "index.html links to gone.html, which is not there.",
    ]


def test_what_is_loaded_from_elsewhere_is_found(tmp_path):
    """Links that a reader follows are no loads."""
    checks = pytest.importorskip("checks")
    write(
        tmp_path / "index.html",
        '<script src="https://cdn.example/x.js"></script><img src="//cdn.example/x.png">'
        '<link rel="stylesheet" href="https://fonts.example/css"><a href="https://fine.example">x</a>'
        '<link rel="canonical" href="https://fine.example"><script src="own.js"></script>',
    )
    write(tmp_path / "x.css", "@import 'https://fonts.example/f'; a { background: url(own.png) }")
    found = checks.loaded_from_elsewhere(tmp_path)
    assert [one.split()[-1] for one in found] == [
        "https://cdn.example/x.js",
        "//cdn.example/x.png",
        "https://fonts.example/css",
        "https://fonts.example/f",
    ]


def test_pages_outside_the_navigation_are_found(tmp_path):
    """No reader would find them."""
    checks = pytest.importorskip("checks")
    config = write(tmp_path / "mkdocs.yml", "nav:\n  - A: index.md\n  - B:\n      - C: b/c.md\n")
    for name in ("index.md", "b/c.md", "b/lost.md"):
        write(tmp_path / "pages" / name, "# Page")
    assert checks.outside_navigation(config, tmp_path / "pages") == [
        "b/lost.md is not in the nav of mkdocs.yml."
    ]


def test_public_names_without_docstring_or_entry_are_found(tmp_path, monkeypatch):
    """A constant is documented by the string below it."""
    pytest.importorskip("griffe")
    import checks

    write(
        tmp_path / "strange" / "__init__.py",
        '"""A package."""\nfrom .home import *\n__all__ = ["LOW", "bare", "told"]\n',
    )
    write(
        tmp_path / "strange" / "home.py",
        'LOW = 1\n"""A constant."""\ndef told():\n    """Say."""\ndef bare(): ...\n',
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "strange", raising=False)
    assert checks.undocumented(("strange",)) == ["strange.bare is public and has no docstring."]
    write(
        tmp_path / "site" / "api" / "x.html", '<h2 id="strange.told"></h2><a id="strange.LOW"></a>'
    )
    assert checks.missing_from_api(tmp_path / "site", ("strange",)) == [
        "strange.bare is public and not in the API pages."
    ]


def test_formulas_become_mathml_or_fail():
    """A command that is not known would be shown by its name."""
    pytest.importorskip("latex2mathml")
    import markdown

    extensions = ["pymdownx.arithmatex", "mathml"]
    options = {"pymdownx.arithmatex": {"generic": True}}
    pytest.importorskip("pymdownx")
    html = markdown.markdown(r"$a < \eta$", extensions=extensions, extension_configs=options)
    assert "<math" in html
    assert "arithmatex" not in html
    with pytest.raises(ValueError, match="not known"):
        markdown.markdown(r"$\nosuch$", extensions=extensions, extension_configs=options)


def test_every_flow_has_a_page():
    """Each public flow is named on a page of docs/pages/flows."""
    text = "\n".join(page.read_text("utf-8") for page in PAGES if page.parent.name == "flows")
    classes = {name: getattr(flows, name) for name in flows.__all__}
    concrete = [
        name
        for name, value in classes.items()
        if inspect.isclass(value)
        and issubclass(value, flows.AbstractFlow)
        and not name.startswith("Abstract")
    ]
    assert len(concrete) > 10
    assert [name for name in concrete if f"`{name}" not in text] == []
