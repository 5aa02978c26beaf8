"""What a robot offers to a policy, and which of it the policy looks at."""

from __future__ import annotations

from collections.abc import Sequence

from act_data.records import DatasetSchema
from act_data.types import Role
from act_model.checkpoint import contract_of
from act_model.config import Contract, TrainConfig


def offered_by(schema: DatasetSchema) -> Contract:
    """All that a robot with the arrays of `schema` offers: every vector, every camera."""

    def vectors(role: Role) -> tuple[str, ...]:
        return tuple(f.name for f in schema.named(role) if len(f.shape) == 1)

    everything = TrainConfig(state=vectors(Role.OBSERVATION), action=vectors(Role.ACTION))
    return contract_of(schema, everything, 1)


def columns_of(schema: DatasetSchema, names: Sequence[str]) -> list[int]:
    """Positions of the sync columns on whose validity the arrays `names` depend."""
    needed = {column for name in names for column in schema.feature(name).columns}
    return [i for i, column in enumerate(schema.columns) if column.name in needed]


def observed(policy: Contract) -> list[str]:
    """The arrays that `policy` sees, by name."""
    return [
        *(v.name for v in policy.state),
        *(f"images/{c.name}" for c in policy.cameras),
        *(f"depth/{c.name}" for c in policy.depth),
    ]
