"""The `[flows.solver]` table: which diffrax solver integrates a flow, and with which steps."""

from typing import Annotated, Any, Literal, TypeAlias, get_args

import pydantic

from .base import PositiveFloat, Table, refuse

_Explicit: TypeAlias = Literal[
    "euler", "heun", "midpoint", "ralston", "bosh3", "tsit5", "dopri5", "dopri8"
]
_Implicit: TypeAlias = Literal["implicit_euler", "kvaerno3", "kvaerno4", "kvaerno5"]
_FIXED_STEP_ONLY = ("euler",)
_Accuracy: TypeAlias = Literal["draft", "default", "reference"]


class SolverTable(Table):
    """A solver and its steps: adaptive when a tolerance is given, fixed when only `dt0` is.

    - nothing but `kind`: adaptive, with the tolerances that `flows.simulate` takes by default, or
      takes for `accuracy`;
    - `rtol` and/or `atol`: adaptive; the one left out equals the other; `dt0` is the first step;
    - `dt0` alone: every step is `dt0`, in units of the flow's time (one optimizer step).

    `kind = "default"` is the solver that the flow itself suggests. `kind = "rkc"`,
    Runge-Kutta-Chebyshev, needs `spectral_radius`, a bound on the modulus of the eigenvalues of the
    vector field's Jacobian, per unit of the flow's time. `max_steps` bounds the solver's steps per
    save, on average over a segment.
    """

    kind: Literal[_Explicit, _Implicit, "rkc", "default"] = "tsit5"
    rtol: PositiveFloat | None = None
    atol: PositiveFloat | None = None
    dt0: PositiveFloat | None = None
    accuracy: _Accuracy | None = None
    # A run whose steps stay too short is told after so many, and not never.
    max_steps: Annotated[int, pydantic.Field(ge=1, le=10**5)] | None = None
    spectral_radius: PositiveFloat | None = None

    @pydantic.model_validator(mode="after")
    def _euler_has_no_error_estimate(self) -> "SolverTable":
        if self.kind in _FIXED_STEP_ONLY:
            for key in ("rtol", "atol"):
                if getattr(self, key) is not None:
                    raise refuse(
                        key,
                        f"given {getattr(self, key)}; {self.kind} takes fixed steps only: "
                        "give dt0 and no tolerance, or choose another solver (heun, tsit5)",
                    )
            if self.dt0 is None:
                raise refuse(
                    "dt0",
                    f"missing; {self.kind} takes fixed steps only and needs their size, "
                    "a number greater than 0",
                )
        return self

    @pydantic.model_validator(mode="after")
    def _rkc_alone_has_a_spectral_radius(self) -> "SolverTable":
        if self.kind == "rkc" and self.spectral_radius is None:
            raise refuse("spectral_radius", "missing; rkc needs it, a number greater than 0")
        if self.kind != "rkc" and self.spectral_radius is not None:
            message = f"given {self.spectral_radius}; goes with kind = 'rkc' alone, not {self.kind}"
            raise refuse("spectral_radius", message)
        return self

    @pydantic.model_validator(mode="after")
    def _tolerances_are_given_once(self) -> "SolverTable":
        given = [key for key in ("rtol", "atol") if getattr(self, key) is not None]
        given += [] if self.adaptive else ["dt0"]
        if self.accuracy is not None and given:
            message = f"given {self.accuracy!r} beside {given[0]}, in place of which it stands"
            raise refuse("accuracy", message)
        return self

    @property
    def adaptive(self) -> bool:
        """Whether the solver chooses its own steps."""
        return self.dt0 is None or self.rtol is not None or self.atol is not None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `flows.simulate` that this table stands for.

        Returns:
            `solver`, `stepsize_controller`, `accuracy`, `dt0` and `max_solver_steps`, each left out
            where the default of `simulate` is meant.
        """
        import diffrax

        arguments: dict[str, Any] = {}
        if self.kind != "default":
            arguments["solver"] = self._solver()
        if not self.adaptive:
            arguments["stepsize_controller"] = diffrax.ConstantStepSize()
        else:
            rtol = self.rtol if self.rtol is not None else self.atol
            atol = self.atol if self.atol is not None else self.rtol
            if rtol is not None and atol is not None:
                arguments["stepsize_controller"] = diffrax.PIDController(rtol=rtol, atol=atol)
        if self.accuracy is not None:
            arguments["accuracy"] = self.accuracy
        if self.dt0 is not None:
            arguments["dt0"] = self.dt0
        if self.max_steps is not None:
            arguments["max_solver_steps"] = self.max_steps
        return arguments

    def _solver(self) -> Any:
        import diffrax
        import jax.numpy as jnp
        import optimistix

        if self.kind == "rkc":
            import flows

            return flows.RungeKuttaChebyshev(self.spectral_radius)
        # The class ImplicitEuler for "implicit_euler".
        solver = getattr(diffrax, self.kind.title().replace("_", ""))
        if self.kind not in get_args(_Implicit) or self.adaptive:
            return solver()
        # Fixed steps bring no tolerance that the stages' equations could be solved to.
        tolerance = float(jnp.sqrt(jnp.finfo(jnp.zeros(()).dtype).eps))
        # Nothing shortens them either where diffrax's own finder, a chord, does not converge.
        return solver(root_finder=optimistix.Newton(rtol=tolerance, atol=tolerance))
