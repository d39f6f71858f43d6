"""Random configs, derived from the schema's own models, right ones and wrong ones.

`python -m tests.experiments.fuzz COUNT LOG` runs that many of them from end to end, each as a
command line, and ends with 1 if one of them misbehaves; `... COUNT LOG 0 1` only traces them, in a
tenth of the time. The tests try a share (`test_fuzz.py`).
"""

import contextlib
import copy
import functools
import io
import json
import multiprocessing
import re
import shutil
import sys
import tempfile
import time
import traceback
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import hypothesis
import hypothesis.strategies as st
import pydantic
import tomli_w

from experiments import ConfigError, cli, load
from experiments.config.build import build, build_study, precision
from experiments.config.loader import validate
from experiments.runs.tracks import Tracks
from experiments.studies import StudyExperiment
from experiments.tables import Experiment
from experiments.tables.flows import FLOWS
from experiments.tables.kinds import AnyOf, OneOf
from experiments.tables.optimizers import OPTIMIZERS

# Keys that the schema fills in itself before it validates, by name.
_FILLED = {"precision", "save_params", "checkpoint", "label", "solver", "every"}
# Long enough for a checkpoint in the middle, or two.
STEPS = 2
# Configs that a process runs one after another.
_SHARD = 200
# What takes memory and time may be this large, which takes minutes; tests take this much of it.
_MOST_SIZE, _LARGE_SIZE = 10**6, 10**3
# Seconds after which a config counts as hanging: a Central Flow of all 16 ranks, on a network of a
# thousand units far above the edge, computes for ten minutes on two cores.
_LIMIT = 3600.0
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
    """Configs of two steps.

    Most have something wrong: one to three things on purpose, or keys that do not go together.
    """
    return _configs()


@st.composite
def _configs(draw: st.DrawFn) -> dict[str, Any]:
    study = draw(st.sampled_from([False] * 9 + [True]))
    config = draw(table(StudyExperiment if study else Experiment))
    if not study:
        config["steps"] = STEPS
        config["save_every"] = draw(st.sampled_from([1, 1, 1, STEPS]))
        fits = _flows_of(config["optimizer"]["kind"])
        if draw(st.integers(0, 2)) == 0:
            config["flows"] = draw(st.lists(fits, min_size=1, max_size=2))
        if draw(st.integers(0, 3)):
            # Most figures want something that most configs do not have.
            config.pop("figures", None)
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 0, 1, 1, 2, 3]))):
        _spoil(draw, config)
    return config


@functools.cache
def _flows_of(optimizer: str) -> st.SearchStrategy[dict[str, Any]]:
    """Tables of the flows that model a kind of optimizer."""
    tables = FLOWS.entries.values()
    return st.one_of([table(one) for one in tables if optimizer in (one.models or (optimizer,))])


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
    for entry in metadata:
        if isinstance(entry, OneOf):
            return st.one_of([table(model) for model in entry.tables.values()])
        if isinstance(entry, AnyOf):
            return st.sampled_from(entry.words())
    if origin is typing.Literal:
        return st.sampled_from(typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return table(annotation)
    if origin is tuple:
        item, _ = typing.get_args(annotation)
        least = _bound(metadata, "min_length") or 0
        items = _value(item, [])
        if items.is_empty:
            return st.just([])  # Of tables whose kinds are all of users.
        return st.lists(items, min_size=least, max_size=max(3, least))
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
        if most is not None and most <= _MOST_SIZE:
            rare = [min(int(most), _LARGE_SIZE)]
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
        # All that the patterns allow; a table of all characters that there are takes seconds.
        allowed = st.characters(codec="ascii")
        texts = st.from_regex(pattern, fullmatch=True, alphabet=allowed)
        return texts.filter(lambda text: len(text) < 40)
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


def collect(count: int) -> list[dict[str, Any]]:
    """The same random configs each time.

    Each is drawn from a seed of its own: of one seed hypothesis makes many that are nearly alike.
    """
    found: list[dict[str, Any]] = []
    # Made before hypothesis draws, whose random numbers the tests' type checks disturb.
    for strategy in (
        table(Experiment),
        table(StudyExperiment),
        *map(_flows_of, OPTIMIZERS.entries),
    ):
        strategy.validate()

    @hypothesis.settings(
        # The first is always the simplest.
        max_examples=2,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(configs())
    def keep(config: dict[str, Any]) -> None:
        found.append(config)

    for seed in range(count):
        hypothesis.seed(seed)(keep)()
        del found[seed : len(found) - 1]
    return found


def misbehaviour(config: dict[str, Any], folder: Path, options: Sequence[str] = ()) -> str:
    """Run a config by the command line; what is wrong with how that ends, empty if nothing is.

    Args:
        config: the tables of the file.
        folder: where to work, empty.
        options: more words of the command line.
    """
    file, directory = folder / "config.toml", folder / "run"
    file.write_text(tomli_w.dumps(config), "utf-8")
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(["run", str(file), "--out", str(directory), *options])
    except BaseException:
        return traceback.format_exc()
    said = err.getvalue()
    if "Traceback" in said or "\ufffd" in said:
        return said
    if code in (cli.OK, cli.DIVERGED):
        status = load(directory).attrs["status"]
        expected = "finished" if code == cli.OK else "diverged"
        return "" if status == expected else f"exit code {code}, and the store says {status}"
    if code != cli.BAD_INPUT:
        return f"exit code {code}: {said}"
    if not _names_a_key(said, str(file)):
        return f"no key in the message: {said}"
    if directory.exists() and load(directory).attrs["message"] == "":
        return f"a folder without a record of why: {said}"
    return ""


def untraceable(config: dict[str, Any]) -> str:
    """Validate and build a config, and evaluate its two steps without numbers.

    Returns:
        What is wrong with how that ends, empty if nothing is.
    """
    try:
        valid = validate(copy.deepcopy(config))
        with precision(valid.precision):
            if isinstance(valid, StudyExperiment):
                build_study(valid, "config")
            else:
                built = build(valid, "config")
                for track in Tracks(valid, built).tracks:
                    eqx.filter_eval_shape(_two_steps, track.advance, built.params)
    except ConfigError as error:
        return "" if all(problem.key for problem in error.problems) else str(error)
    except BaseException:
        return traceback.format_exc()
    return ""


def _two_steps(advance: Any, params: Any) -> Any:
    return advance(params, None, STEPS).state


def _names_a_key(said: str, file: str) -> bool:
    """Whether a message of errors has a key behind the file, or at the head of each line."""
    key = r"(?:[\w-]|\[\d+\]|\.|\"[^\n]*\")+"
    # What does not fit into memory may be the fault of several.
    key = f"{key}(?:, {key})*: "
    head = f"error: {file}: "
    if not said.startswith(head):
        return False
    first, *lines = said[len(head) :].splitlines()
    if re.fullmatch(r"\d+ problems", first):
        return bool(lines) and all(re.match(f"  {key}", line) for line in lines)
    return re.match(key, first) is not None


def _shard(configs: list[dict[str, Any]], first: int, trace: bool, report: Any) -> None:
    import resource

    import matplotlib

    matplotlib.use("Agg")
    resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))
    for index, config in enumerate(configs, first):
        folder = Path(tempfile.mkdtemp())
        begin = time.perf_counter()
        options = [] if index % 10 == 0 else ["--no-figures"]
        # A study takes the steps that its kind takes, up to hours: it is built, and no more.
        abstract = trace or "study" in config
        wrong = untraceable(config) if abstract else misbehaviour(config, folder, options)
        shutil.rmtree(folder)
        report.send((index, time.perf_counter() - begin, wrong))
    report.close()


def main(count: int, log: Path, done: int = 0, trace: bool = False) -> int:
    """Run configs one after another in processes of their own, and note each in a file.

    Args:
        count: how many.
        log: one line of JSON for each config that misbehaves, and for each shard how far it is.
        done: how many of them to leave out.
        trace: evaluate each without numbers instead.

    Returns:
        0 if all behave, else 1.
    """
    every = collect(count)
    context = multiprocessing.get_context("spawn")
    wrongs = 0
    with log.open("w", encoding="utf-8") as file:

        def note(**record: Any) -> None:
            file.write(json.dumps(record, default=str) + "\n")
            file.flush()

        while done < len(every):
            receive, send = context.Pipe(duplex=False)
            # JAX keeps what it compiled: a process must not go on for ever.
            shard = every[done : done + _SHARD]
            worker = context.Process(target=_shard, args=(shard, done, trace, send))
            worker.start()
            send.close()
            end = done + len(shard)
            while done < end:
                try:
                    told = receive.recv() if receive.poll(_LIMIT) else None
                except EOFError:
                    told = None
                if told is None:
                    alive = worker.is_alive()
                    worker.kill()
                    worker.join()
                    what = "hangs" if alive else f"kills the process ({worker.exitcode})"
                    told = (done, _LIMIT, what)
                    end = done + 1
                index, seconds, wrong = told
                if wrong:
                    wrongs += 1
                    note(index=index, seconds=seconds, wrong=wrong, config=every[index])
                elif seconds > 20:
                    note(index=index, seconds=seconds, config=every[index])
                done = index + 1
            worker.join()
            note(done=done, wrong=wrongs, seconds=time.perf_counter())
    return 1 if wrongs else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])))
