"""When the monitor raises an alarm."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class MonitorOptions(BaseModel):
    """What counts as early, and how far from it is too far. The defaults suit from 16 to thousands of samples a step.

    Example:
        >>> MonitorOptions(threshold=1.0).patience_steps
        3
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    early_steps: int = Field(default=5, ge=1)
    """The first steps, that later ones are compared with: step 0 alone is often no more than 16 samples, and after
    many more steps the policy has learned its first trick."""
    threshold: float = Field(default=0.5, gt=0)
    """How far the trained reward may rise away from the others, in standard deviations of the early samples. Below
    half of them people call an effect small. It has to exceed three standard errors too, so that a step of few
    samples raises no alarm by chance."""
    patience_steps: int = Field(default=3, ge=1)
    """For how many steps it has to stay above. Held-out prompts are the same every time, so one evaluation counts for
    all the steps since the one before."""
    smoothing: float = Field(default=0.3, gt=0, le=1)
    """The weight of a step in moving averages: half of one comes from the last two steps."""
    early_percentile: float = Field(default=95, gt=0, lt=100)
    """What explains an alarm has passed this percentile of its early values."""
    maximum: float | None = None
    """The largest reward there can be, where that is known and the smallest is 0. Otherwise saturation means the
    largest one so far, in units of the range so far."""
