from __future__ import annotations

import re
from pathlib import Path

import pytest

from flip_reward.audit.attacks.base import Attack, Carrier, Effect
from flip_reward.audit.attacks.catalogue import ATTACKS, FAMILIES, find_attacks
from flip_reward.errors import OptionError

DOCS = Path(__file__).parents[4] / "docs/audit.md"
MODULE = '''
from flip_reward.audit.attacks.base import Attack, Carrier, Effect

def shout(instruction, response, seed):
    """In capitals."""
    return response.upper()

def spelled(instruction, response, seed):
    return response
spelled.effect = "kept"
spelled.carrier = Carrier.OTHER

def wrong(instruction, response, seed):
    return response
wrong.effect = "good"

def fails(instruction, response, seed):
    raise KeyError("x")

def silent(instruction, response, seed):
    print

class Rooms:
    @staticmethod
    def hall(instruction, response, seed):
        return response * 2

mine = Attack("local.doubled", Effect.BROKEN, Rooms.hall, Carrier.NEAREST)
again = Attack("copy.before", Effect.EXPLOIT, shout)
number = 3
def without_seed(instruction, response): return response
spoiled = Attack("style.spoiled", Effect.EXPLOIT, without_seed)
def ends(instruction, response, seed): raise SystemExit
def drifts(instruction, response, seed, calls=[]):
    calls.append(response)
    return str(len(calls))
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with modules of one's own."""
    (tmp_path / "home_made.py").write_text(MODULE)
    (tmp_path / "half_made.py").write_text("import nothing_of_this_name")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return tmp_path


def test_names_and_families_are_found_in_their_order_and_once() -> None:
    names = [attack.name for attack in find_attacks(["key.colon", "length", "length.repeated"])]

    assert names == ["key.colon", "length.padding_2", "length.padding_4", "length.repeated"]
    assert find_attacks() == list(ATTACKS.values())
    assert [attack.family for attack in find_attacks(FAMILIES)] == [attack.family for attack in ATTACKS.values()]


@pytest.mark.parametrize(
    ("name", "near"),
    [("copy.befor", "'copy.before'?"), ("Refusal", "'refusal'?"), ("copi.before", "'copy.before'?"), ("", "''")],
)
def test_an_unknown_name_gets_a_suggestion(name: str, near: str) -> None:
    with pytest.raises(OptionError) as caught:
        find_attacks([name])

    assert str(caught.value).endswith(near)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["home_made:shout", "home_made.shout"])
def test_a_function_of_the_users_is_an_exploit(name: str) -> None:
    [attack] = find_attacks([name])

    assert (attack.name, attack.effect, attack.carrier) == ("own.shout", Effect.EXPLOIT, Carrier.OWN)
    assert attack.description == "In capitals."
    assert attack.function("x", "y", 0) == "Y"


@pytest.mark.usefixtures("folder")
def test_a_function_says_by_attributes_what_else_it_is_and_an_attack_is_taken_as_it_is() -> None:
    spelled, hall, mine = find_attacks(["home_made:spelled", "home_made:Rooms.hall", "home_made:mine"])

    assert (spelled.effect, spelled.carrier) == (Effect.KEPT, Carrier.OTHER)
    assert (hall.name, hall.function("x", "y", 0)) == ("own.hall", "yy")
    assert (mine.name, mine.effect, mine.carrier) == ("local.doubled", Effect.BROKEN, Carrier.NEAREST)
    assert mine.function("x", "y", 0) == "yy"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("home_made:quiet", "quiet"),
        ("home_made:number", "neither a function"),
        ("home_made:Rooms", "neither a function"),
        ("home_made:wrong", "effect"),
        ("home_made:without_seed", "'home_made:without_seed' cannot be called with (instruction, response, seed)"),
        ("home_made:without_seed", "write it as def attack(instruction: str, response: str, seed: int) -> str"),
        ("home_made:spoiled", "'style.spoiled' cannot be called"),
        ("half_made:shout", "nothing_of_this_name"),
        ("not_made:shout", "not_made"),
        ("home_made:", "module:function"),
        (":shout", "module:function"),
        (".home_made:shout", "module:function"),
    ],
)
def test_what_is_no_attack_is_refused(name: str, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        find_attacks([name])

    assert said in f"{caught.value} {caught.value.hint}"
    assert "\n" not in str(caught.value)


def test_in_python_attacks_may_be_given_themselves() -> None:
    def louder(_instruction: str, response: str, _seed: int) -> str:
        return response.upper()

    shouting = Attack("style.shout", Effect.EXPLOIT, louder)
    found = find_attacks([louder, shouting])

    assert [(attack.name, attack.function("x", "y", 0)) for attack in found] == [
        ("own.louder", "Y"),
        ("style.shout", "Y"),
    ]


@pytest.mark.usefixtures("folder")
def test_two_attacks_of_one_name_are_refused() -> None:
    with pytest.raises(OptionError, match=r"copy\.before"):
        find_attacks(["copy", "home_made:again"])


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "said"), [("fails", "KeyError"), ("silent", "NoneType"), ("ends", "SystemExit"), ("drifts", "each time")]
)
def test_a_function_that_fails_is_named(name: str, said: str) -> None:
    [attack] = find_attacks([f"home_made:{name}"])

    with pytest.raises(OptionError, match=f"own.{name}.*{said}"):
        attack.function("x", "y", 0)


def test_the_documentation_has_every_attack_with_what_it_does() -> None:
    rows = [line for line in DOCS.read_text().partition("## Attacks")[2].splitlines() if line.startswith("| `")]

    assert rows == [f"| `{name}` | {attack.carrier} | {attack.description} |" for name, attack in ATTACKS.items()]


def test_every_attack_says_where_it_is_from() -> None:
    sources = re.compile(r"arXiv |\bseen in |\(our own\)|CheckList|XSTest|Unicode, UAX")

    assert [name for name, attack in ATTACKS.items() if not sources.search(attack.description)] == []
