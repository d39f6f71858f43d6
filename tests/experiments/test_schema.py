"""What a config may say, and what a user is told who gets it wrong."""

import json
import tomllib
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

import figures
import flows
from experiments import ConfigError, builtin_names, load_config
from experiments.config.loader import MAX_BYTES, to_toml, validate
from experiments.tables import Experiment
from tests.experiments.configs import NETWORK, VALLEY, config, write
from tests.helpers import assert_trees_close

BAD = [
    # (assignment, key named, what else the message must say)
    ("potental.epsilon=1", "potental", "did you mean 'potential'"),
    ("optimizer.learning_rat=0.1", "optimizer.learning_rat", "did you mean 'learning_rate'"),
    (
        "optimizer.learning_rate=-0.1",
        "optimizer.learning_rate",
        "given -0.1; must be greater than 0",
    ),
    ("optimizer.learning_rate='0.1'", "optimizer.learning_rate", "given '0.1'; must be a number"),
    ("optimizer.learning_rate=true", "optimizer.learning_rate", "given true; must be a number"),
    ("optimizer.learning_rate=nan", "optimizer.learning_rate", "must be a finite number"),
    ("optimizer.learning_rate=inf", "optimizer.learning_rate", "must be a finite number"),
    ("optimizer.kind=gradient_decent", "optimizer.kind", "did you mean 'gradient_descent'"),
    ("optimizer.kind=sgd", "optimizer.kind", "did you mean 'gradient_descent'"),
    ("optimizer.lr=0.1", "optimizer.lr", "did you mean 'learning_rate'"),
    (
        "optimizer.momentum=0.9",
        "optimizer.momentum",
        'belongs to kind = "heavy_ball", kind = "nesterov", ',
    ),
    ("flows[0].kind=central_flow", "flows[0].kind", "did you mean 'central'"),
    ("steps=1e3", "steps", "must be a whole number: write 1000"),
    ("potential.start=1.0,2.0", "potential.start", "must be a list: write [1.0,2.0]"),
    ("steps=0", "steps", "given 0; must be at least 1"),
    ("steps=1.5", "steps", "given 1.5; must be a whole number"),
    ("steps=true", "steps", "given true; must be a whole number"),
    ("save_every=5", "save_every", "given 5; must divide steps = 12"),
    ("seed=-1", "seed", "must be at least 0"),
    ("precision=float16", "precision", "must be one of float32, float64"),
    ("name=../elsewhere", "name", "must begin with a letter or a digit"),
    ("save_params=1", "save_params", "given 1; must be true or false"),
    ("potential=3", "potential", "given 3; must be a table"),
    ("potential.kind=sharp_valey", "potential.kind", "did you mean 'sharp_valley'"),
    ("potential.kind=catapult", "potential.width", "missing; this key is required"),
    ("potential.epsilon='a'", "potential.epsilon", "given 'a'; must be a number"),
    ("potential.start=[1.0, '2']", "potential.start[1]", "given '2'; must be a number"),
    ("potential.start=5", "potential.start", "given 5; must be a list"),
    ("potential.start=[]", "potential.start", "given []; must have at least 1 entry"),
    ("flows=3", "flows", "given 3; must be a list"),
    ("flows.0.kind=gradint", "flows[0].kind", "did you mean 'gradient'"),
    ("flows.0.correction=1", "flows[0].correction", "must be true or false"),
    ("flows.0.label=discrete", "flows[0].label", "may not be one of"),
    ("flows.0.label=Landscape", "flows[0].label", "may not be one of"),
    ("flows.0.label=zarr.json", "flows[0].label", "may not be one of"),
    ("flows.0.label=a/b", "flows[0].label", "letters, digits"),
    ("flows.0.solver.rtol=0", "flows[0].solver.rtol", "given 0; must be greater than 0"),
    ("flows.0.solver.kind=tsit", "flows[0].solver.kind", "did you mean 'tsit5'"),
    ("flows.0.solver.kind=euler", "flows[0].solver.dt0", "missing; euler takes fixed steps only"),
    ("curvature.every=0", "curvature.every", "must be at least 1"),
    ("curvature.eigenvalues=-1", "curvature.eigenvalues", "must be at least 0"),
    ("figures=['overvew']", "figures[0]", "did you mean 'overview'"),
]


def problem(data: dict[str, Any], assignment: str, tmp_path: Path) -> str:
    """The message for a config file with one assignment made on the command line."""
    import tomli_w

    file = write(tmp_path / "mine.toml", tomli_w.dumps(data))
    with pytest.raises(ConfigError) as caught:
        load_config(file, [assignment])
    return str(caught.value)


def test_an_assignment_that_is_no_text_is_told(tmp_path: Path) -> None:
    """As Python makes it of a byte that is not UTF-8."""
    told = problem(VALLEY, "description=a\udcffb", tmp_path)
    assert told == r"--set: description: not valid text: 'a\udcffb'"


@pytest.mark.parametrize(("assignment", "key", "says"), BAD, ids=[row[0] for row in BAD])
def test_a_bad_value_is_told_by_file_key_value_and_what_is_allowed(
    assignment: str, key: str, says: str, tmp_path: Path
) -> None:
    """Each kind of mistake gives one sentence that names the key."""
    message = problem(VALLEY, assignment, tmp_path)
    assert f"mine.toml: {key}: " in message or f"\n  {key}: " in message
    assert says in message


@pytest.mark.parametrize(
    ("potential", "says"),
    [
        ({"kind": "quadratic", "spectrum": ["a"]}, "spectrum[0]: given 'a'; must be a number"),
        (
            {"kind": "matrix_factorization", "rank": 1, "target": [["a"]]},
            "target[0][0]: given 'a'; must be a number",
        ),
        (
            {"kind": "matrix_factorization", "rank": 1, "target": [[]]},
            "target[0]: given []; must have at least 1 entry",
        ),
        (
            {**NETWORK["potential"], "data": {"kind": "npz", "path": ""}},
            "data.path: given ''; must have at least 1 character",
        ),
    ],
)
def test_one_mistake_is_told_once(potential: dict[str, Any], says: str) -> None:
    """A list with a wrong entry is not too short as well."""
    with pytest.raises(ConfigError) as caught:
        validate({**VALLEY, "potential": potential}, "mine.toml")
    assert str(caught.value) == f"mine.toml: potential.{says}"


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    """Editors on Windows write one."""
    import tomli_w

    file = tmp_path / "mine.toml"
    file.write_text(tomli_w.dumps(VALLEY), "utf-8-sig")
    assert load_config(file) == config(VALLEY)


@pytest.mark.parametrize(
    ("assignment", "key"),
    [
        ("curvature.every=3", "curvature.every"),
        ("checkpoint.every=3", "checkpoint.every"),
        ("potential.model.kind=mpl", "potential.model.kind"),
        ("potential.model.activation=tnh", "potential.model.activation"),
        ("potential.data.clases=3", "potential.data.clases"),
        ("potential.data.kind=npz", "potential.data.path"),
        ("potential.model={kind='cnn'}", ""),
    ],
)
def test_nested_tables_and_comparisons_name_their_key(
    assignment: str, key: str, tmp_path: Path
) -> None:
    """The same holds below `potential`, and where two keys contradict each other."""
    if assignment.startswith("potential.model={"):
        loaded = validate(
            {**NETWORK, "potential": {**NETWORK["potential"], "model": {"kind": "cnn"}}}
        )
        assert loaded.potential.kind == "supervised"
        return
    assert f"{key}: " in problem(NETWORK, assignment, tmp_path)


def test_a_network_for_images_needs_images() -> None:
    """A CNN on points of the plane is refused before anything is loaded."""
    potential = {
        "kind": "supervised",
        "model": {"kind": "cnn"},
        "data": {"kind": "two_moons"},
    }
    with pytest.raises(ConfigError, match=r"potential\.model\.kind: given 'cnn'"):
        config(NETWORK, potential=potential)


def test_a_missing_key_is_named() -> None:
    """Leaving a required key out names it, and every other problem too."""
    data = {key: value for key, value in VALLEY.items() if key not in ("steps", "optimizer")}
    with pytest.raises(ConfigError) as caught:
        validate(data, "mine.toml")
    assert [problem.key for problem in caught.value.problems] == ["steps", "optimizer"]


def test_two_flows_need_two_labels() -> None:
    """Labels name groups of the store, so that capitals do not tell them apart."""
    flows = [{"kind": "gradient"}, {"kind": "gradient", "label": "Gradient"}]
    with pytest.raises(ConfigError, match=r"flows\[1\]\.label.*flows\[0\] has this label too"):
        config(flows=flows)


@pytest.mark.parametrize(
    ("figure", "changes"),
    [("sharpness", {"curvature": {"eigenvalues": 0}}), ("paths", {"save_params": False})],
)
def test_a_figure_without_its_data_is_refused(figure: str, changes: dict[str, Any]) -> None:
    """Better now than after the run."""
    with pytest.raises(ConfigError, match=f"figures: given '{figure}', which needs"):
        config(figures=[figure], **changes)


def test_the_schema_knows_the_figures_that_there_are() -> None:
    """The schema lists names so as not to import matplotlib; the list must not drift."""
    assert set(figures.known()) == set(figures.FIGURES)


def test_toml_that_does_not_parse_is_told_by_line_and_column(tmp_path: Path) -> None:
    """The position comes from the parser."""
    file = write(tmp_path / "mine.toml", 'name = "a"\nsteps = = 3\n')
    with pytest.raises(ConfigError, match=r"mine\.toml: not valid TOML: .*line 2, column 9"):
        load_config(file)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"#" * (MAX_BYTES + 1), "may have at most"),
        (b"seed = " + b"9" * 10_000, "not valid TOML"),
        (b"a" + b".a" * 200_000 + b" = 1", "nested too deeply"),
        (b"x = {a" + b" . 'a'" * 100_000 + b" = 1}", "nested too deeply"),
        (b"a" * 1_000_000, "not valid TOML"),
    ],
    ids=["binary", "nested", "large", "digits", "dotted", "inline", "word"],
)
def test_hostile_files_are_refused_in_a_sentence(content: bytes, says: str, tmp_path: Path) -> None:
    """Size, nesting and encoding are bounded."""
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert says in str(caught.value)


def test_a_missing_file_and_an_unknown_name_are_told_apart(tmp_path: Path) -> None:
    """A name gets a suggestion, a path does not."""
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="a folder; expected a TOML file"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'valley'"):
        load_config("valey")


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("steps", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("flows.1.label=x", "allowed is an index from 0 to 0"),
        ("flows.first.label=x", "is a list"),
        ("steps.a=3", "not a table"),
    ],
)
def test_an_override_that_leads_nowhere_is_told(assignment: str, says: str, tmp_path: Path) -> None:
    """The assignment stands in for the file's name."""
    message = problem(VALLEY, assignment, tmp_path)
    assert message.startswith(f"--set {assignment}: ")
    assert says in message


def test_words_that_lost_their_quotes_to_the_shell_are_words(tmp_path: Path) -> None:
    """In lists and tables; numbers and truth values stay what they are."""
    import tomli_w

    file = write(tmp_path / "mine.toml", tomli_w.dumps(VALLEY))
    tables = "flows=[{kind=gradient,correction=true,label=slow}, {kind=central, rank=1}]"
    loaded = load_config(file, [tables, "figures=[overview,loss]"])
    assert [flow.kind for flow in loaded.flows] == ["gradient", "central"]
    assert loaded.flows[0].model_dump()["correction"] is True
    assert loaded.figures == ("overview", "loss")


def test_other_languages_than_toml(tmp_path: Path) -> None:
    """JSON holds the same tables; YAML is refused by name; so is a backslash in double quotes."""
    expected = validate(VALLEY)
    assert load_config(write(tmp_path / "mine.json", json.dumps(VALLEY))) == expected
    for name, text, says in (
        ("a.json", "[1]", "must be a JSON object"),
        ("a.json", "{", "not valid JSON: "),
        ("a.yaml", "steps: 1", "YAML is not read: write the same tables as TOML"),
        ("a.toml", 'path = "C:\\Users\\me"', "write a Windows path in single quotes"),
    ):
        with pytest.raises(ConfigError, match=says):
            load_config(write(tmp_path / name, text))


def test_overrides_are_toml_or_else_text(tmp_path: Path) -> None:
    """Numbers, lists and quoted text are TOML; bare words are text; tables spring up as needed."""
    import tomli_w

    file = write(tmp_path / "mine.toml", tomli_w.dumps(VALLEY))
    overrides = [
        "steps=24",
        "potential.start=[1, 2.5]",
        "name=bare",
        "flows.0.label=slow",
        "flows.0.solver.dt0=0.5",
        'description="x = 1"',
    ]
    loaded = load_config(file, overrides)
    assert loaded.steps == 24
    assert loaded.potential.model_dump()["start"] == (1.0, 2.5)
    assert (loaded.name, loaded.description) == ("bare", "x = 1")
    assert loaded.flows[0].label == "slow"
    assert not loaded.flows[0].solver.adaptive


def test_defaults_follow_what_is_run() -> None:
    """Networks run in float32 without storing their parameters, toys in float64 with them."""
    toy, network = config(VALLEY, checkpoint={}), config(NETWORK)
    assert (toy.precision, toy.save_params) == ("float64", True)
    assert (network.precision, network.save_params) == ("float32", False)
    assert toy.checkpoint.every == 1
    assert (
        config(NETWORK, curvature={}).curvature
        == config(NETWORK, curvature={"eigenvalues": 3, "every": 2}).curvature
    )
    assert network.flows[0].label == "gradient"


@pytest.mark.parametrize("steps", [1, 7, 60, 223, 1000, 100_000])
def test_the_default_checkpoint_is_about_a_twentieth_of_the_run(steps: int) -> None:
    """And divides the run where that is possible, which saves a compilation."""
    every = config(steps=steps, checkpoint={}).checkpoint.every
    assert 1 <= every <= max(1, steps // 9)
    if steps != 223:
        assert steps % every == 0


@pytest.mark.parametrize("name", builtin_names())
def test_every_built_in_is_valid_and_survives_being_written(name: str) -> None:
    """The resolved TOML gives an equal config, so that running it again gives the same run."""
    loaded = load_config(name)
    assert loaded.name == name
    assert loaded.description
    assert len(loaded.description) < 100
    assert validate(tomllib.loads(to_toml(loaded))) == loaded


def test_configs_are_frozen() -> None:
    """A config that could change would not be the one on record."""
    import pydantic

    loaded: Experiment = config()
    with pytest.raises(pydantic.ValidationError):
        loaded.steps = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_relative_data_paths_become_absolute(monkeypatch: Any, tmp_path: Path) -> None:
    """The resolved config lies in another folder than the one it was read from."""
    monkeypatch.chdir(tmp_path)
    data = {"kind": "npz", "path": "mine.npz"}
    loaded = config(NETWORK, potential={**NETWORK["potential"], "data": data})
    assert loaded.potential.model_dump()["data"]["path"] == str(tmp_path / "mine.npz")


@pytest.mark.slow
def test_fixed_implicit_steps_of_a_config_are_solved_with_newtons_method() -> None:
    """Where a chord does not converge there is no shorter step to fall back on."""
    solver = {"kind": "kvaerno5", "dt0": 0.5}
    table = config(VALLEY, flows=[{"kind": "gradient", "solver": solver}]).flows[0]
    start = jnp.asarray([1.0, 2.0, -1.5, 0.3])

    def potential(params: Any) -> Any:
        return jnp.sum(params**4) / 4 + jnp.sum(params**2) / 2

    run = flows.simulate(
        flows.GradientFlow(flows.GradientDescent(0.3)), potential, start, 10, save_every=10,
        **table.solver.arguments(),
    )  # fmt: skip
    # w^2 / (1 + w^2) decays as exp(-2 eta t); at first a step is twice the time of w = 2's decay.
    share = start**2 / (1 + start**2) * jnp.exp(-6.0)
    expected = jnp.sign(start) * jnp.sqrt(share / (1 - share))
    assert_trees_close(run.params[-1], expected, rtol=1e-3, atol=0.0)
