"""Addresses and resources: what is missing is said at once."""

import socket
import time

import pytest

from flip_reward import RewardConfig
from flip_reward.distributed import Workers
from flip_reward.distributed.cluster import check_resources, choose_resources, connect, pick_environment
from flip_reward.errors import EngineUnavailableError, OptionError


@pytest.mark.parametrize("text", ["0", "2-1", "two", "-2", "2-", "", "1.5", "²"])
def test_no_number_of_workers(text: str) -> None:
    with pytest.raises(OptionError, match="no number of workers"):
        Workers.parse(text)


def test_one_number_is_a_pool_that_stays() -> None:
    assert Workers.parse(" 3 ") == Workers(3, 3)


@pytest.mark.parametrize("address", ["http://host", "host", "host:port", "ray://host", ":6379", "host:99999"])
def test_no_address(address: str) -> None:
    with pytest.raises(OptionError, match="no address of a Ray cluster"):
        connect(address)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens(scheme: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        begun = time.monotonic()
        with pytest.raises(EngineUnavailableError, match="no Ray cluster at"):
            connect(f"{scheme}127.0.0.1:{taken.getsockname()[1]}")
    assert time.monotonic() - begun < 10


@pytest.mark.usefixtures("cluster")
def test_more_workers_than_the_cluster_has_room_for() -> None:
    with pytest.raises(OptionError, match=r"17 workers would take 4.25 CPUs; the cluster has 4") as raised:
        check_resources(17, {"CPU": 0.25, "GPU": 0})
    assert raised.value.hint == "there is room for 16 workers"


@pytest.mark.usefixtures("cluster")
def test_room_for_reading_is_needed_too() -> None:
    check_resources(12, {"CPU": 0.25}, beside=1, what="reading")
    with pytest.raises(OptionError, match=r"3.25 CPUs and reading 1; the cluster has 4"):
        check_resources(13, {"CPU": 0.25}, beside=1, what="reading")


@pytest.mark.usefixtures("cluster")
def test_gpus_that_are_not_there() -> None:
    with pytest.raises(OptionError, match=r"1 worker would take 1 GPUs; the cluster has 0"):
        check_resources(1, {"CPU": 0.25, "GPU": 1})


@pytest.mark.usefixtures("cluster")
def test_a_model_in_the_worker_takes_a_whole_cpu_where_there_is_no_gpu() -> None:
    assert choose_resources(RewardConfig(model="transformers:tiny"), None, None) == {"CPU": 1, "GPU": 0}
    assert choose_resources(RewardConfig(model="m", base_url="http://host/v1"), None, None) == {"CPU": 0.25, "GPU": 0}


def test_workers_get_keys_and_settings_and_nothing_else() -> None:
    given = {"MY_KEY": "k", "OPENAI_API_KEY": "o", "FLIP_REWARD_CACHE": "off", "AWS_SECRET_ACCESS_KEY": "s"}
    config = RewardConfig(model="m", base_url="http://host/v1", api_key_env="MY_KEY")
    assert pick_environment(config, given) == {"MY_KEY": "k", "FLIP_REWARD_CACHE": "off"}
