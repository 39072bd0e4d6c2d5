from __future__ import annotations

import pytest
import yaml
from pydantic_core import PydanticCustomError

from flip_reward.training.grpo.recipe import check_grpo_fields


def test_a_plain_no_is_a_name_where_one_is_wanted() -> None:
    values = yaml.safe_load("{eval_strategy: no, save_strategy: no, use_cpu: no}")
    assert check_grpo_fields(values) == {"eval_strategy": "no", "save_strategy": "no", "use_cpu": False}
    with pytest.raises(PydanticCustomError, match="lr_scheduler_type: Input should be 'linear'"):
        check_grpo_fields({"lr_scheduler_type": False})
