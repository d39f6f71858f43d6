import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_the_readme_has_an_example():
    """A changed fence would otherwise leave nothing to run."""
    assert BLOCKS


@pytest.mark.parametrize("code", BLOCKS)
def test_every_python_block_of_the_readme_runs(code, capsys):
    """Each block is complete in itself, and what it prints is finite."""
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert printed.strip()
    assert not re.search(r"\b(nan|inf)\b", printed)


def test_every_file_that_the_readme_links_to_exists():
    """Pictures and links inside the repository lead somewhere."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_make_target_that_the_readme_names_exists():
    """Its commands can be typed as they stand."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", README, flags=re.MULTILINE))
    assert {"demo", "test"} <= named <= targets
