"""A Markdown extension that turns formulas into MathML, which browsers show without a script.

`pymdownx.arithmatex` finds the formulas, with `generic: true`; this converts what it leaves. It
stands in `mkdocs.yml` after it, and is found there because docs/build.py has this folder on the
path.
"""

import html
import re
from typing import Any

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.postprocessors import Postprocessor

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def mathml(formula: str, display: str) -> str:
    r"""Return the MathML of a formula.

    Args:
        formula: LaTeX, as it stands in HTML.
        display: "inline" or "block".

    Raises:
        ValueError: If a command in it is not known: it would be shown by its name.

    Example:
        >>> mathml("2/\\eta", "inline").startswith("<math")
        True
    """
    latex = html.unescape(formula).strip()
    written = convert(latex, display=display)
    if unknown := re.search(r">\s*(\\[A-Za-z]+)", written):
        raise ValueError(f"formula {latex!r}: {unknown[1]} is not known to latex2mathml")
    return written


class _Formulas(Postprocessor):
    def run(self, text: str) -> str:
        # A formula that is too wide scrolls, by the keyboard too.
        text = _BLOCK.sub(
            lambda found: f'<div class="formula" tabindex="0">{mathml(found[1], "block")}</div>',
            text,
        )
        return _INLINE.sub(lambda found: mathml(found[1], "inline"), text)


class MathmlExtension(Extension):
    """Registers the conversion behind all that restores raw HTML."""

    def extendMarkdown(self, md: Markdown) -> None:
        """Add the postprocessor to an instance of Markdown."""
        md.postprocessors.register(_Formulas(md), "mathml", -10)


def makeExtension(**options: Any) -> MathmlExtension:
    """Make the extension; Markdown calls this by its name."""
    return MathmlExtension(**options)
