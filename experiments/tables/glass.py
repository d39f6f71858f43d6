"""The tables of Alice, of its flow, and of the density of gradient glass (arXiv 2411.16914)."""

from .base import MOST_WORK
from .derived import Recipe, table_of
from .flows import FLOWS, flow_table
from .measurements import MEASUREMENTS, AbstractMeasurementTable
from .optimizers import OPTIMIZERS, optimizer_table

# Each is a vector of the parameters' size.
_MOST_PROBES = 1000

OPTIMIZERS.add(
    optimizer_table(
        "alice",
        "flows.Alice",
        critical_label="none",
        critical_variable="",
        batched=False,
        most={"probes": _MOST_PROBES, "sample_every": MOST_WORK},
    )
)

FLOWS.add(flow_table("alice", "flows.AliceFlow", models=("alice",)))

_density = Recipe("flows.GlassDensity", most={"probes": _MOST_PROBES})
MEASUREMENTS.add(
    table_of(
        AbstractMeasurementTable,
        "glass_density",
        _density,
        build=lambda self: _density.construct(self),
    )
)
