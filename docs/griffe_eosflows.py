"""What mkdocstrings must know about these packages, as an extension of griffe, which reads them.

griffe reads sources without running them. It takes `Example:` for a remark (its section of examples
has the name `Examples:`), and does not know that an equinox module is a dataclass.
"""

import importlib
import inspect
import re
from typing import Any

import griffe

_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: griffe.ParameterKind.positional_only,
    inspect.Parameter.POSITIONAL_OR_KEYWORD: griffe.ParameterKind.positional_or_keyword,
    inspect.Parameter.VAR_POSITIONAL: griffe.ParameterKind.var_positional,
    inspect.Parameter.KEYWORD_ONLY: griffe.ParameterKind.keyword_only,
    inspect.Parameter.VAR_KEYWORD: griffe.ParameterKind.var_keyword,
}


class EosflowsExtension(griffe.Extension):
    """Renames the examples, and gives equinox modules the signature of their constructor."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Let griffe find the examples of a docstring."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE
            )

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Write the constructor that equinox writes."""
        if "__init__" in cls.members or cls.is_private:
            return
        actual = getattr(importlib.import_module(cls.module.path), cls.name, None)
        if not inspect.isclass(actual) or not hasattr(actual, "__dataclass_fields__"):
            return
        found = inspect.signature(actual).parameters.values()
        parameters = [
            griffe.Parameter(
                one.name,
                annotation=_annotation(cls, one.name),
                kind=_KINDS[one.kind],
                default=None if one.default is one.empty else _default(cls, one),
            )
            for one in found
        ]
        this = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
        made = griffe.Function("__init__", parameters=griffe.Parameters(this, *parameters))
        cls.set_member("__init__", made)


def _annotation(cls: griffe.Class, name: str) -> Any:
    """Return a field's annotation as it stands in the source, where it is this class's own."""
    field = cls.members.get(name)
    return field.annotation if isinstance(field, griffe.Attribute) else None


def _default(cls: griffe.Class, one: inspect.Parameter) -> str:
    """Return a default that can be read: not the address of an object."""
    text = repr(one.default)
    return "..." if "<" in text else text
