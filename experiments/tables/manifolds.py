"""The tables of descent on manifolds (arXiv 1905.09054 and its relatives), and of its flow."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import pydantic

from .base import BuildError
from .flows import FLOWS, flow_table
from .optimizers import OPTIMIZERS, optimizer_table

Named = Literal[
    "euclidean",
    "sphere",
    "oblique_rows",
    "oblique_columns",
    "oblique_kernels",
    "stiefel_columns",
    "stiefel_rows",
    "hyperboloid",
]
_NAMES = get_args(Named)


def _manifold(given: Any) -> Any:
    """Check a name, or a table from patterns to names; one that is frozen holds pairs."""
    pairs = tuple(given.items()) if isinstance(given, Mapping) else given
    if isinstance(given, str) and given in _NAMES:
        return given
    if isinstance(pairs, tuple) and pairs and all(_is_pair(pair) for pair in pairs):
        return pairs
    allowed = ", ".join(f'"{name}"' for name in _NAMES)
    raise ValueError(
        f"must be one of {allowed}, or a table from patterns of leaves to these, such as "
        '{"layers.*.weight" = "oblique_rows"}'
    )


def _is_pair(pair: Any) -> bool:
    return len(pair) == 2 and isinstance(pair[0], str) and pair[1] in _NAMES


def _table(pairs: Any) -> Any:
    return dict(pairs) if isinstance(pairs, tuple) else pairs


# One for all leaves of the parameters, or a table: which leaf lives where.
Manifold = Annotated[
    Named | tuple[tuple[str, Named], ...],
    pydantic.PlainValidator(_manifold),
    pydantic.PlainSerializer(_table),
]


def _start(table: Any, optimizer: Any, potential: Any, params: Any) -> Any:
    """Where the potential starts, put on the manifold: fresh weights lie on none."""
    import jax

    del table, potential
    try:
        nearest = optimizer.manifold.nearest(params)
    except ValueError as error:
        raise BuildError("manifold", str(error)) from error
    if not all(bool((leaf == leaf).all()) for leaf in jax.tree.leaves(nearest)):
        raise BuildError("manifold", "the start has no nearest point on it, as a zero vector")
    return nearest


def _add(kind: str, constructor: str, label: str, keys: Mapping[str, Any]) -> None:
    OPTIMIZERS.add(
        optimizer_table(
            kind,
            constructor,
            critical_label=label,
            critical_variable="riemannian_sharpness",
            keys=keys,
            start=_start,
        )
    )


_ON_IT = {"manifold": Manifold}
_add("riemannian_gradient_descent", "flows.RiemannianGradientDescent", "2/eta", _ON_IT)
_add("riemannian_sam", "flows.RiemannianSAM", "lambda*", _ON_IT)
_add("fine_grained_sgd", "flows.FineGrainedSGD", "2/eta", _ON_IT)
_add("fisher_sam", "flows.FisherSAM", "numerical", {"fisher": (Literal["gradient"], "gradient")})

FLOWS.add(
    flow_table(
        "riemannian",
        "flows.RiemannianFlow",
        models=(
            "riemannian_gradient_descent",
            "riemannian_sam",
            "fine_grained_sgd",
            "fisher_sam",
        ),
        batched=True,
    )
)
