import pytest

from flip_reward.errors import OptionError
from flip_reward.rewards.unscored import NONE, RAISE
from flip_reward.server.settings import Limits, OnUnscored, ServerSettings, choose_policy, is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_needs_no_key(host: str) -> None:
    assert is_loopback(host)
    assert ServerSettings(host=host).api_key is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.7", "example.org", "::ffff:10.0.0.7"])
def test_a_public_address_needs_a_key_or_a_word(host: str) -> None:
    with pytest.raises(OptionError, match="no key"):
        ServerSettings(host=host)
    assert ServerSettings(host=host, api_key="k").host == host
    assert ServerSettings(host=host, insecure=True).host == host


@pytest.mark.parametrize("key", ["", " ", "key\n", "clé"])
def test_a_key_that_no_client_could_send_is_refused(key: str) -> None:
    with pytest.raises(OptionError) as caught:
        ServerSettings(api_key=key)
    assert key.strip() == "" or key not in str(caught.value)


def test_the_key_is_not_shown() -> None:
    assert "hush" not in repr(ServerSettings(api_key="hush"))


def test_an_unscored_value_is_chosen_or_absent() -> None:
    with pytest.raises(OptionError, match="--on-unscored value"):
        choose_policy(OnUnscored.VALUE)
    with pytest.raises(OptionError, match="--unscored-value"):
        choose_policy(OnUnscored.NULL, 0.0)
    with pytest.raises(OptionError, match="--unscored-value nan"):
        choose_policy(OnUnscored.VALUE, float("nan"))
    assert choose_policy(OnUnscored.VALUE, 0.0).constant == 0.0
    assert (choose_policy(OnUnscored.ERROR), choose_policy(OnUnscored.NULL)) == (RAISE, NONE)


def test_limits_that_make_no_sense() -> None:
    with pytest.raises(OptionError, match="at least 1"):
        Limits(max_candidates=0)
    with pytest.raises(OptionError, match="never be accepted"):
        Limits(max_candidates=100, max_pending=99)
