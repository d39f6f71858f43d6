"""The names of the methods, so that a config is read without what they are computed with."""

from typing import Literal, TypeAlias, get_args

Method: TypeAlias = Literal[
    "map", "laplace", "linearised_laplace", "riemannian_laplace", "dims", "deep_ensemble"
]

METHODS: tuple[Method, ...] = get_args(Method)
"""The methods, in the order of figures; "map" is the trained network by itself.

That network is trained to meet its targets, without a prior: it is of maximum likelihood, the limit
of maxima of the posterior for a wide prior, and not the maximum itself, which shrinks the weights.
The Laplace methods are centred there too: exact for a linear model in their precision, not in their
mean; and the geodesics of the Riemannian one start where the prior still has a slope.
"""
