from __future__ import annotations

import pytest
import yaml
from pydantic_core import PydanticCustomError

from flip_reward.training.common.recipe import check_trl_fields, to_settings
from flip_reward.training.inferrer.recipe import TuningMethod

pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("config", ["GRPOConfig", "SFTConfig"])
def test_a_plain_no_is_a_name_where_one_is_wanted(config: str) -> None:
    values = yaml.safe_load("{eval_strategy: no, save_strategy: no, use_cpu: no}")
    expected = {"eval_strategy": "no", "save_strategy": "no", "use_cpu": False}
    assert check_trl_fields(config, values, reserved=frozenset()) == expected
    with pytest.raises(PydanticCustomError, match="lr_scheduler_type"):
        check_trl_fields(config, {"lr_scheduler_type": False}, reserved=frozenset())


def test_the_error_names_the_configuration_and_the_nearest_field() -> None:
    with pytest.raises(PydanticCustomError, match=r"'packng'; did you mean 'packing'.*SFTConfig"):
        check_trl_fields("SFTConfig", {"packng": True}, reserved=frozenset())
    with pytest.raises(PydanticCustomError, match="'packing'"):
        check_trl_fields("SFTConfig", {"packing": True}, reserved=frozenset({"packing"}))


def test_settings_are_plain_values() -> None:
    values = {"method": TuningMethod.FULL, "names": ["a", "b"], "rate": 0.5, "none": None}
    assert to_settings(values, "x.") == {"x.method": "full", "x.names": "['a', 'b']", "x.rate": 0.5, "x.none": None}
