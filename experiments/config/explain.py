"""Turn pydantic's validation errors into sentences about the user's TOML."""

import difflib
import json
import re
import typing
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, TypeAlias

import pydantic
import pydantic_core

from ..system.errors import MOST_SHOWN, Problem
from ..system.text import show
from ..tables.kinds import AnyOf, models

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
_Model: TypeAlias = type[pydantic.BaseModel]

_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}
_TYPES = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "finite_number": "a finite number",
    "string_type": "text in quotes",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}


# What a key is called elsewhere.
_OTHER_KEYS = {
    "lr": "learning_rate",
    "eta": "learning_rate",
    "step_size": "learning_rate",
    "stepsize": "learning_rate",
    "beta": "momentum",
    "beta1": "b1",
    "beta2": "b2",
    "betas": "b1",
    "epsilon": "eps",
    "wd": "weight_decay",
    "l2": "weight_decay",
    "epochs": "steps",
    "iterations": "steps",
    "num_steps": "steps",
    "max_steps": "steps",
    "model": "network",
    "dataset": "data",
}
# And a kind.
_OTHER_KINDS = {
    "sgd": "gradient_descent",
    "gd": "gradient_descent",
    "momentum": "heavy_ball",
    "nag": "nesterov",
    "gradient_flow": "gradient",
    "central_flow": "central",
    "rod_flow": "rod",
    "edge_flow": "edge",
    "parity_flow": "parity",
    "stable_flow": "stable",
    "mlp": "supervised",
}


def explain(error: pydantic.ValidationError, data: Any, model: _Model) -> list[Problem]:
    """Describe each error by the key it is about, what was given and what is allowed.

    Args:
        error: what validating `data` raised.
        data: the tables that were validated.
        model: what they were validated as.

    Returns:
        One problem per mistake, in pydantic's order.
    """
    found = error.errors(include_url=False)
    found = [details for details in found if not _only_follows(details)]
    # To look for what was meant takes a while, and the rest is not shown anyway.
    rest = [Problem(_dotted(details["loc"]), details["msg"]) for details in found[MOST_SHOWN:]]
    return [_explain(details, data, model) for details in found[:MOST_SHOWN]] + rest


def _only_follows(details: pydantic_core.ErrorDetails) -> bool:
    """Whether a list of enough entries counts as too short, since pydantic drops the wrong ones."""
    given = details["input"]
    return (
        details["type"] == "too_short"
        and isinstance(given, list | tuple)
        and len(given) >= details.get("ctx", {})["min_length"]
    )


class _Place(NamedTuple):
    """Where an error is: the user's path, and what the schema says about that place.

    `owners` are the models of the table that has the key, `siblings` those of other kinds that it
    could have been, `members` those that the key's value may be of, and `choices` the words that it
    may be.
    """

    path: tuple[int | str, ...]
    owners: list[_Model]
    siblings: list[_Model]
    members: list[_Model]
    choices: list[str]


def _explain(details: pydantic_core.ErrorDetails, data: Any, model: _Model) -> Problem:
    place = _locate(details["loc"], data, model)
    kind, given, context = details["type"], details["input"], details.get("ctx", {})
    key = _dotted(place.path)
    if kind == "refused":
        below = str(context["key"])
        return Problem(f"{key}.{below}" if key else below, str(context["message"]))
    if kind == "missing":
        return Problem(key, "missing; this key is required")
    if kind == "extra_forbidden":
        return Problem(key, _unknown_key(str(place.path[-1]), place.owners, place.siblings))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        if not isinstance(given, Mapping):
            return Problem(key, f"given {show(given)}; must be a table")
        return _wrong_kind(f"{key}.kind", given, _kinds(place.members))
    if kind == "literal_error":
        return Problem(key, _not_one_of(given, place.choices))
    allowed = f"{_allowed(kind, details, context)}{_written(kind, given)}"
    return Problem(key, f"given {show(given)}; {allowed}")


def _written(kind: str, given: Any) -> str:
    """Return how to write what was meant, where that is plain; otherwise ""."""
    if kind == "int_type" and isinstance(given, float) and given.is_integer():
        return f": write {int(given)}" if abs(given) < 1e15 else ""
    if _TYPES.get(kind) == "a list" and isinstance(given, str) and 0 < len(given) < 60:
        return f": write [{given}]" if "," in given and given[0] not in "[({" else ""
    return ""


def _wrong_kind(key: str, given: Mapping[str, Any], allowed: list[str]) -> Problem:
    if "kind" in given:
        return Problem(key, _not_one_of(given["kind"], allowed))
    return Problem(key, f"missing; must be one of {', '.join(allowed)}")


def _allowed(kind: str, details: pydantic_core.ErrorDetails, context: dict[str, Any]) -> str:
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        bound = context[name]
        return f"must be {words} {bound if isinstance(bound, int) else f'{bound:g}'}"
    if kind in _TYPES:
        return f"must be {_TYPES[kind]}"
    if kind == "string_pattern_mismatch":
        return (
            "must begin with a letter or a digit and have only letters, digits, '-', '_' and '.' "
            "(it names a folder)"
        )
    if kind == "string_too_long":
        return f"must have at most {context['max_length']} characters"
    if kind == "string_too_short":
        return f"must have at least {_counted(context['min_length'], 'character')}"
    if kind == "too_short":
        return f"must have at least {_counted(context['min_length'], 'entry')}"
    if kind == "too_long":
        return f"must have at most {_counted(context['max_length'], 'entry')}"
    if kind == "value_error":
        return str(context["error"])
    return details["msg"]


def _counted(count: int, what: str) -> str:
    plural = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{count} {what if count == 1 else plural}"


def _not_one_of(given: Any, allowed: list[str]) -> str:
    if not allowed:
        return f"given {show(given)}; there is none but those of a file given with --import"
    return f"given {show(given)}; must be one of {', '.join(allowed)}{_suggest(given, allowed)}"


def _unknown_key(key: str, owners: list[_Model], siblings: list[_Model]) -> str:
    allowed = sorted({name for owner in owners for name in owner.model_fields})
    meant = _OTHER_KEYS.get(key, key)
    others = sorted(
        {kind for one in siblings if meant in one.model_fields for kind in _kinds([one])}
    )
    hint = _suggest(key, allowed)
    if others and meant not in allowed and not hint:
        kinds = ", ".join(f'kind = "{kind}"' for kind in others[:6])
        hint = f"; {'this key' if meant == key else repr(meant)} belongs to {kinds}"
    return f"unknown key{hint} (allowed here: {', '.join(allowed)})"


def _suggest(given: Any, allowed: list[str]) -> str:
    # A number of thousands of digits cannot be written out.
    word = given if isinstance(given, str) else show(given)
    for names in (_OTHER_KEYS, _OTHER_KINDS):
        if names.get(word.lower()) in allowed:
            return f"; did you mean {names[word.lower()]!r}?"
    close = difflib.get_close_matches(word, allowed, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _dotted(path: tuple[Any, ...]) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) else _quoted(part)
            text += f".{key}" if text else key
    return text


def _quoted(key: str) -> str:
    """A key as TOML writes it where it is more than letters, digits, dashes and underscores."""
    shown = key if len(key) <= 60 else f"{key[:57]}..."
    return json.dumps(shown, ensure_ascii=not key.isprintable())


def _locate(location: tuple[int | str, ...], data: Any, model: _Model) -> _Place:
    """Follow pydantic's location through the user's tables and through the models.

    Pydantic puts the kind of a table with several kinds into its location; the user never wrote
    that level, so it chooses the model and is left out of the path.
    """
    path: tuple[int | str, ...] = ()
    owners: list[_Model] = [model]
    members: list[_Model] = [model]
    siblings: list[_Model] = []
    of_other_kinds: list[_Model] = []
    choices: list[str] = []
    node = data
    kind_may_follow = False
    for part in location:
        if kind_may_follow and isinstance(node, Mapping):
            kind_may_follow = False
            if node.get("kind") == part and part in _kinds(members):
                of_other_kinds = members
                members = [model for model in members if part in _kinds([model])]
                continue
        path, owners, siblings, of_other_kinds = (*path, part), members, of_other_kinds, []
        if isinstance(part, str):
            fields = [owner.model_fields[part] for owner in owners if part in owner.model_fields]
            types = [Annotated[(field.annotation, None, *field.metadata)] for field in fields]
            members = [model for one in types for model in models(one)]
            choices = [word for one in types for word in _words(one)]
        node = _item(node, part)
        kind_may_follow = True
    return _Place(path, owners, siblings, members, choices)


def _words(annotation: Any) -> list[str]:
    """The words that are allowed anywhere in a type."""
    if isinstance(annotation, AnyOf):
        return list(annotation.words())
    if typing.get_origin(annotation) is typing.Literal:
        return [str(word) for word in typing.get_args(annotation)]
    return [word for part in typing.get_args(annotation) for word in _words(part)]


def _kinds(models: list[_Model]) -> list[str]:
    fields = [model.model_fields["kind"] for model in models if "kind" in model.model_fields]
    return [kind for field in fields for kind in _words(field.annotation)]


def _item(node: Any, part: int | str) -> Any:
    if isinstance(node, Mapping):
        return node.get(part)
    if isinstance(node, list | tuple) and isinstance(part, int) and part < len(node):
        return node[part]
    return None
