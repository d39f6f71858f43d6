"""Random configs, derived from the schema's own models, right ones and wrong ones.

`python -m tests.experiments.fuzz COUNT` runs that many of them from end to end, each as a command
line, and ends with 1 if one of them misbehaves; the tests run a share (`test_fuzz.py`).
"""

import copy
import functools
import typing
from typing import Any

import hypothesis.strategies as st
import pydantic

from experiments.schema import Experiment, StudyExperiment

# Keys that the schema fills in itself before it validates, by name.
_FILLED = {"precision", "save_params", "checkpoint", "label", "solver", "every"}
# Long enough for a checkpoint in the middle, or two.
STEPS = 2
# In the place of a number, a word, a list or a table; most of them are wrong in most places.
_WRONG = [
    *[0, -1, 2, 17, 2**31 - 1, 2**31, 10**30, -(2**63)],
    *[0.0, -0.0, -1.5, 1e-320, 1e-30, 1e30, 1e300, -1e300, float("nan"), float("inf")],
    *[True, False, "", "auto", "kind", "1", "ä\n", "x" * 200, "../up", "/dev/null"],
    *[[], [[]], [0.5], [1, "2"], [{}], {}, {"kind": "tsit5"}, {"kind": 1}],
]
# What may stand in the place of `steps`: no number of steps that would be taken.
_WRONG_STEPS = [0, -1, 1.5, 2.0, True, "2", [], {}, 2**31, 10**9, float("nan")]


def configs() -> st.SearchStrategy[dict[str, Any]]:
    """Configs of two steps, about half of them with one to three things wrong."""
    return _configs()


@st.composite
def _configs(draw: st.DrawFn) -> dict[str, Any]:
    study = draw(st.integers(0, 9)) == 0
    config = draw(table(StudyExperiment if study else Experiment))
    if not study:
        config["steps"] = STEPS
        config["save_every"] = draw(st.sampled_from([1, 1, 1, STEPS]))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3]))):
        _spoil(draw, config)
    return config


@functools.cache
def table(model: type[pydantic.BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """Tables of a model: every required key, and any of the others."""
    required, optional = {}, {}
    for name, field in model.model_fields.items():
        value = _value(field.annotation, field.metadata)
        may_be_left_out = not field.is_required() or name in _FILLED
        (optional if may_be_left_out else required)[name] = value
    # Four keys at a time, so that each of many optional ones is tried without most of the others.
    few = st.lists(st.sampled_from(sorted(optional)), max_size=4) if optional else st.just([])
    return st.tuples(
        st.fixed_dictionaries(required),
        few.flatmap(lambda names: st.fixed_dictionaries({name: optional[name] for name in names})),
    ).map(lambda pair: {**pair[0], **pair[1]})


def _value(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    """Values of a field: what its type and its bounds allow, in sizes that a test can run."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        return _value(inner, [*_flat(more), *metadata])
    metadata = _flat(metadata)
    if origin is typing.Literal:
        return st.sampled_from(typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return table(annotation)
    if origin is tuple:
        item, _ = typing.get_args(annotation)
        least = _bound(metadata, "min_length") or 0
        return st.lists(_value(item, []), min_size=least, max_size=max(3, least))
    members = typing.get_args(annotation)
    if members:
        # TOML has no null: None is a key that is left out.
        kinds = [member for member in members if member is not type(None)]
        return st.one_of([_value(member, metadata) for member in kinds])
    return _scalar(annotation, metadata)


def _scalar(kind: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    least, most = _bound(metadata, "ge", "gt"), _bound(metadata, "le", "lt")
    if kind is bool:
        return st.booleans()
    if kind is int:
        low = 1 if least is None else int(least)
        high = low + 4 if most is None else min(low + 4, int(most))
        rare = [most] if most is not None else [high]
        return st.one_of([st.integers(low, high)] * 15 + [st.sampled_from([int(x) for x in rare])])
    if kind is float:
        sizes = st.floats(-3, 1).map(lambda x: round(10**x, 6))
        signed = sizes if least is not None else st.one_of(sizes, sizes.map(lambda x: -x))
        within = signed.filter(lambda x: most is None or x < most)
        within = within.filter(lambda x: least is None or x > least)
        return within if least is None or least <= 1 else st.just(float(2 * least))
    assert kind is str, kind
    pattern = _bound(metadata, "pattern")
    if pattern is not None:
        return st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) < 40)
    return st.sampled_from(["auto", "", "words", "ünï", "no/such/file.npz", "\t'\"\\", "a\u0000b"])


def _flat(metadata: Any) -> list[Any]:
    """The metadata of a type; a pydantic field among them stands for several."""
    found = []
    for entry in metadata:
        found += _flat(entry.metadata) if isinstance(entry, pydantic.fields.FieldInfo) else [entry]
    return found


def _bound(metadata: list[Any], *names: str) -> Any:
    found = [getattr(entry, name, None) for entry in metadata for name in names]
    return next((value for value in found if value is not None), None)


def _spoil(draw: st.DrawFn, config: dict[str, Any]) -> None:
    """Change one thing somewhere in a config: a wrong value, key or type, or a key left out."""
    node, key = draw(st.sampled_from(_places(config)))
    wrong = _WRONG_STEPS if node is config and key == "steps" else _WRONG
    change = draw(st.sampled_from(["replace"] * 5 + ["delete", "rename", "add"]))
    if change == "replace":
        node[key] = copy.deepcopy(draw(st.sampled_from(wrong)))
    elif isinstance(node, list) or change == "add":
        target = node if isinstance(node, dict) else config
        target[draw(st.sampled_from(["kinds", "x", "", "a.b", "\n", "0"]))] = 1
    else:
        value = node.pop(key)
        if change == "rename":
            node[f"{key}s"] = value
        elif node is config and key == "steps":
            config["steps"] = 0


def _places(node: Any) -> list[tuple[Any, Any]]:
    """Every place in a config that holds a value, as the table or list and the key or index."""
    if isinstance(node, dict):
        items = list(node.items())
    elif isinstance(node, list):
        items = list(enumerate(node))
    else:
        return []
    below = [place for _, value in items for place in _places(value)]
    return [(node, key) for key, _ in items] + below
