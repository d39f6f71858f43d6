"""`python -m benchmarks.peer PATH`: the loop of the Central Flows paper's own code beside ours.

The peer is the PyTorch package of arXiv 2410.24206, github.com/centralflows/centralflows, in a
checkout at PATH; nothing of it is copied here. Both run the demo network of `problems.py` from the
same start, its tenth iterate: gradient descent with three eigenpairs at every step, Central Flow of
rank 3, and gradient flow. The table has the processor seconds of each, and how far apart they end.

To be fair to the peer: it is written for large networks on GPUs, where the overhead of its many
small operations vanishes; it runs here with one thread, with which it takes the fewest processor
seconds, and with its own settings, among them an eigensolver tolerance near the limit of float32
(1e-10 relative to 10 P times the eigenvalue) and four Euler steps per unit of time. It needs the
packages torch, cvxpy and cvxopt besides ours.
"""

import argparse
import contextlib
import dataclasses
import importlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree
from rich.table import Table

from flows import (
    CentralFlow,
    Curvature,
    GradientDescent,
    GradientFlow,
    LossAndGradient,
    Trajectory,
    iterate,
    simulate,
)
from potentials import MLP, SupervisedPotential

from .problems import LEARNING_RATE, demo_network, descend
from .report import wide_console

_RANK = 3
# Halfway the sharpness reaches 2 / learning rate.
_STEPS = 100
# The network begins with a sharpness above 2 / learning rate, which Central Flow does not allow.
# The two bring it down in different ways, and then stay apart by a hundredth of the distance that
# they travel, however small the peer's Euler steps are. Ten steps later it is well below.
_BEFORE = 10

_NEEDED = ("torch", "cvxpy", "cvxopt")

# What is used of the peer: the classes and functions by the module of `src` that has them.
_NAMES = {
    "datasets": ("Examples",),
    "functional": ("FunctionalModel",),
    "loss_criterion": ("mse_loss",),
    "loss_function": ("SupervisedLossFunction",),
    "processes": (
        "CentralFlow",
        "CentralFlowConfig",
        "DiscreteProcess",
        "DiscreteProcessConfig",
        "EigConfig",
        "StableFlow",
        "StableFlowConfig",
    ),
    "update_rules": ("GradientDescent",),
}

# Both evaluate the same loss in float32; another normalisation would be off by more than a factor.
_SAME_LOSS = 1e-5


class PeerError(Exception):
    """The peer cannot be run; the message says what was given and what is needed."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One line of the table.

    Attributes:
        name: What both ran.
        ours: Processor seconds of our run, once compiled.
        first: Processor seconds of our first call, which traces and compiles.
        peer: Processor seconds of the peer's run, after one step that is not counted.
        apart: Distance between the two end points / distance of ours from the start.
        eigenvalues: The largest difference between eigenvalues that both found at the last step
            but one / the largest of them; None if one of them does not give any.
    """

    name: str
    ours: float
    first: float
    peer: float
    apart: float
    eigenvalues: float | None


def load_peer(path: str) -> Mapping[str, Any]:
    """Import the peer and return what is used of it by name, and the module torch.

    Args:
        path: The folder of the checkout; empty if none was given.

    Raises:
        PeerError: If there is no checkout, a package that it needs is missing, or it is another
            version, which has not all the names that are used.
    """
    checkout = "a checkout of github.com/centralflows/centralflows, which has src/processes.py"
    if not path:
        raise PeerError(f"PEER must be the path of {checkout}; none was given.")
    folder = Path(path).expanduser()
    if not (folder / "src" / "processes.py").is_file():
        found = "has no such file" if folder.is_dir() else "is no folder"
        raise PeerError(f"PEER must be the path of {checkout}; {path!r} {found}.")
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise PeerError(
            f"The peer at {path!r} needs {' and '.join(missing)}, which this Python lacks: run "
            f"`{sys.executable} -m pip install -c constraints.txt {' '.join(missing)}`."
        )
    with _importable(folder):
        try:
            modules = {name: importlib.import_module(f"src.{name}") for name in _NAMES}
            used = {
                name: getattr(modules[m], name) for m, names in _NAMES.items() for name in names
            }
        except (ImportError, AttributeError) as error:
            for name in [name for name in sys.modules if name.split(".")[0] == "src"]:
                del sys.modules[name]
            raise PeerError(
                f"PEER must be the path of {checkout} with the names that this uses; they could "
                f"not be imported from {path!r}: {error}."
            ) from error
        return {**used, "torch": importlib.import_module("torch")}


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let the peer's package `src` be imported."""
    # The module that loads data sets imports Hugging Face's `datasets`. No data set is loaded here.
    stand_in = find_spec("datasets") is None
    if stand_in:
        empty = ModuleType("datasets")
        setattr(empty, "load_dataset", None)  # noqa: B010  (pyright knows no such attribute)
        sys.modules["datasets"] = empty
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.resolve()))
        if stand_in:
            del sys.modules["datasets"]


@contextlib.contextmanager
def _on_the_processor(torch: ModuleType) -> Iterator[None]:
    """Keep torch on one thread of the processor, and its warnings and the peer's quiet."""
    # The peer's Central Flow moves two small arrays to the GPU without asking for one.
    cuda, threads = torch.Tensor.cuda, torch.get_num_threads()
    torch.Tensor.cuda = lambda self, *_, **__: self
    # Two threads take many times the processor time of one here: they spin while they wait.
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.Tensor.cuda = cuda
        torch.set_num_threads(threads)


class _PeerProblem:
    """The loss of `demo_network` written in torch, and the peer's processes on it."""

    def __init__(
        self, peer: Mapping[str, Any], potential: SupervisedPotential, params: PyTree[Array]
    ):
        torch = self.torch = peer["torch"]
        self.peer = peer
        model = potential.model(params)
        assert isinstance(model, MLP)
        # The peer's own networks have no tanh.
        parts = []
        for n, m in zip(model.widths[:-1], model.widths[1:], strict=True):
            parts += [torch.nn.Linear(n, m), torch.nn.Tanh()]
        network = torch.nn.Sequential(*parts[:-1])
        with torch.no_grad():
            leaves = jax.tree.leaves(params)
            for ours, theirs in zip(leaves, network.parameters(), strict=True):
                theirs.copy_(torch.tensor(np.asarray(ours)))
        self.start, function = peer["FunctionalModel"].make_functional(network)
        examples = len(potential.inputs)
        data = peer["Examples"](
            torch.tensor(np.asarray(potential.inputs).reshape(examples, -1)),
            torch.tensor(np.asarray(potential.targets)),
        )
        self.loss = peer["SupervisedLossFunction"](function, peer["mse_loss"], [data])
        self.optimizer = peer["GradientDescent"](lr=LEARNING_RATE)
        self.state = self.optimizer.initialize_state(self.start)
        # The end points are compared as flat vectors, which needs the same order of the entries.
        if not np.array_equal(self.start.numpy(), np.asarray(ravel_pytree(params)[0])):
            raise PeerError("The peer orders the parameters of a network otherwise than JAX does.")
        ours, theirs = float(potential(params)), float(self.loss(self.start))
        if abs(theirs - ours) > _SAME_LOSS * ours:
            raise PeerError(f"The peer's loss at the start is {theirs:.8g}, and ours {ours:.8g}.")

    def run(self, kind: str, config: str, eigenpairs: int, steps: int, **settings: Any) -> Any:
        """Make some steps of one of the peer's processes and return it.

        Args:
            kind: The name of its class.
            config: The name of the class of its settings.
            eigenpairs: How many it computes at every step.
            steps: How many steps to make.
            settings: Those that are not the peer's defaults.
        """
        # The eigensolver begins with random vectors.
        self.torch.manual_seed(0)
        process = self.peer[kind](
            opt=self.optimizer,
            loss_fn=self.loss,
            w=self.start,
            state=self.state,
            eig_config=self.peer["EigConfig"](
                frequency=1, initial_neigs=eigenpairs, track_threshold=None
            ),
            config=self.peer[config](**settings),
        )
        for _ in range(steps):
            process.prepare()
            process.step()
        return process


def _seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor seconds that a call takes, on all threads, and its result."""
    start = time.process_time()
    result = function()
    if isinstance(result, Trajectory):
        jax.block_until_ready(result.params)
    return time.process_time() - start, result


def compare(path: str, steps: int = _STEPS, substeps: int | None = None) -> Iterator[Comparison]:
    """Run the three loops in both packages, and yield a line of the table as each is measured.

    Args:
        path: The folder of the peer's checkout.
        steps: How many optimizer steps, or units of the flows' time, to run.
        substeps: How many Euler steps the peer's flows make per optimizer step, at least; its own
            default if not given. The end points of the flows come closer as it grows.

    Raises:
        PeerError: If the peer cannot be run, or its loss is not ours.
    """
    peer = load_peer(path)
    descent = GradientDescent(LEARNING_RATE)
    with jax.default_device(jax.local_devices(backend="cpu")[0]), _on_the_processor(peer["torch"]):
        potential, params = demo_network()
        params = descend(potential, params, _BEFORE)
        problem = _PeerProblem(peer, potential, params)
        start = np.asarray(ravel_pytree(params)[0])

        def descended() -> Trajectory:
            measurements = (LossAndGradient(), Curvature(_RANK))
            return iterate(descent, potential, params, steps, measurements=measurements)

        def central() -> Trajectory:
            return simulate(CentralFlow(descent, rank=_RANK), potential, params, steps)

        def gradient() -> Trajectory:
            return simulate(GradientFlow(descent), potential, params, steps)

        euler = {} if substeps is None else {"nsubsteps": substeps}
        at_least = {} if substeps is None else {"min_nsubsteps": substeps}
        # The peer's gradient flow needs the sharpness, for the number of its Euler steps.
        for name, ours, eigenvalues, theirs, count, settings in (
            ("gradient descent, 3 eigenpairs", descended, "eigenvalues", "DiscreteProcess", 3, {}),
            ("Central Flow, rank 3", central, "watched_eigenvalues", "CentralFlow", 3, euler),
            ("gradient flow", gradient, None, "StableFlow", 1, at_least),
        ):
            config = theirs + "Config"
            jax.clear_caches()
            first, _ = _seconds(ours)
            second, found = _seconds(ours)
            problem.run(theirs, config, count, 1, **settings)
            seconds, process = _seconds(
                lambda: problem.run(theirs, config, count, steps, **settings)  # noqa: B023
            )
            end = np.asarray(ravel_pytree(jax.tree.map(lambda x: x[-1], found.params))[0])
            apart = np.linalg.norm(end - process.w.numpy()) / np.linalg.norm(end - start)
            difference = None
            if eigenvalues is not None:
                # The peer's are in units of 1 / learning rate, before its last step.
                other = -np.sort(-process.eff_eigs.numpy()) / LEARNING_RATE
                mine = -np.sort(-np.asarray(found.observables[eigenvalues][-2]))[:_RANK]
                difference = float(np.max(np.abs(mine - other)) / other[0])
            yield Comparison(name, second, first, seconds, float(apart), difference)


def table(comparisons: Sequence[Comparison], steps: int) -> Table:
    """Return the comparisons as a table, one row each.

    Args:
        comparisons: What was measured.
        steps: How many steps of the optimizer each run has.
    """
    made = Table(
        title=f"Processor seconds, demo network in float32, steps {_BEFORE}-{_BEFORE + steps}",
        caption="ours: once compiled; first call: with tracing and compilation. apart: distance "
        "between the two end points / distance travelled, from rounding for gradient descent, and "
        "for the flows from the time steps of both (the peer's: --substeps). eigenvalues apart: at "
        "the last step but one, relative to the largest.",
        show_lines=True,
    )
    made.add_column("row")
    for name in ("ours s", "peer s", "ours / peer", "ours, first call s", "apart"):
        made.add_column(name, justify="right")
    made.add_column("eigenvalues apart", justify="right")
    for c in comparisons:
        numbers = (c.ours, c.peer, c.ours / c.peer, c.first, c.apart)
        eigenvalues = "-" if c.eigenvalues is None else f"{c.eigenvalues:.2g}"
        made.add_row(c.name, *(f"{x:.3g}" for x in numbers), eigenvalues)
    return made


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text!r}.")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare with the peer at the path that the arguments give, and return the exit code.

    It is 2 if the peer cannot be run; one sentence then says what is missing.

    Args:
        arguments: The words of the command line; those of `sys.argv` if not given.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peer",
        description="Run the Central Flows paper's own code beside ours on the same problem.",
    )
    parser.add_argument("path", nargs="?", default="", metavar="PEER", help="the peer's checkout")
    parser.add_argument("--steps", type=_whole, default=_STEPS, help=f"default: {_STEPS}")
    parser.add_argument(
        "--substeps", type=_whole, help="Euler steps of the peer's flows per step; default: its own"
    )
    options = parser.parse_args(arguments)
    console = wide_console()
    try:
        with console.status("running both packages"):
            comparisons = list(compare(options.path, options.steps, options.substeps))
    except PeerError as error:
        print(error, file=sys.stderr)
        return 2
    console.print(table(comparisons, options.steps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
