"""The page of `serve --ui` in a real browser, which may ask nobody but the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from flip_reward import FlipReward, ScriptedEngine
from flip_reward.engines.base import Request
from flip_reward.errors import EngineServerError
from flip_reward.report.serve.examples import EXAMPLES
from flip_reward.report.serve.page import make_routes
from flip_reward.rewards.base import RewardModel
from flip_reward.rewards.judges.listwise import ListwiseJudge
from flip_reward.rewards.judges.pointwise import PointwiseJudge
from flip_reward.server.settings import ServerSettings
from tests.e2e.report.test_access import CONTRASTS
from tests.e2e.served import Served
from tests.http.reward_server import RewardServer
from tests.unit.report.make_evaluation import HOSTILE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
PICTURES = {**{code: 0x2400 + code for code in range(32) if code not in (9, 10, 13)}, 127: 0x2421}
"""How the page shows control characters."""
TITLE = "Try the reward · flip-reward serve"


@contextmanager
def opened(
    browser: Browser, address: str, *, width: int = 1280, dark: bool = False, complaints: int = 0
) -> Iterator[Page]:
    """Open the page; afterwards nothing but its own server was asked, and the console has so many complaints."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light")
    page = context.new_page()
    problems: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    assert page.title() == TITLE
    context.close()
    assert len(problems) == complaints, problems
    # `data:,` is the page's own empty icon.
    assert [url for url in asked if not url.startswith(address) and url != "data:,"] == []


@contextmanager
def serving(reward: RewardModel | None = None, api_key: str | None = None) -> Iterator[str]:
    with RewardServer(reward, ServerSettings(port=0, pages=make_routes, api_key=api_key)) as server:
        yield f"http://127.0.0.1:{server.port}/"


def ask(page: Page, instruction: str, *responses: str) -> None:
    page.get_by_label("Instruction").fill(instruction)
    for place, response in enumerate(responses):
        if place:
            page.get_by_role("button", name="Add a response").click()
        page.locator("#responses textarea").nth(place).fill(response)
    page.get_by_role("button", name="Reward").click()
    page.wait_for_selector("#ask:not([hidden])")


@pytest.mark.parametrize(("width", "dark"), [(360, True), (360, False), (1280, True), (1280, False)])
def test_an_example_shows_rewards_and_shared_words(tmp_path: Path, browser: Browser, width: int, dark: bool) -> None:
    with Served(tmp_path, "--ui", "--model", "scripted") as served:
        assert "a page to try it" in served.announced
        with opened(browser, f"http://127.0.0.1:{served.port}/", width=width, dark=dark) as page:
            for example in EXAMPLES:
                page.get_by_role("button", name=example.name).click()
                page.wait_for_selector("#ask:not([hidden])")
                rewards = page.locator("#answer .judgement h5 .value").all_inner_texts()
                assert len(rewards) == len(example.responses)
                scored = [float(reward) for reward in rewards if reward != "none"]
                assert scored == sorted(scored, reverse=True)
                assert rewards[len(scored) :] == ["none"] * (len(rewards) - len(scored)), "unscored ones come last"
                page.get_by_label("Order").select_option("asked")
                names = page.locator("#answer .candidate").evaluate_all("all => all.map(one => one.ariaLabel)")
                assert names == [f"Response #{place + 1}" for place in range(len(rewards))]
                page.get_by_label("Order").select_option("best")
                assert page.evaluate(SIDEWAYS) == 0
                assert page.evaluate(CONTRASTS) == []
            assert "scripted" in page.locator("#kicker").inner_text()
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, background[4:-1].split(","))) < 200) == dark


def test_the_shared_words_are_marked_in_both_instructions(browser: Browser) -> None:
    reward = FlipReward(ScriptedEngine(lambda _request: '{"INFERRED INSTRUCTION": "Which fruit is red?"}'))
    with serving(reward) as address, opened(browser, address) as page:
        ask(page, "👩‍🔬 Name a red fruit.", "Apples are.")
        assert page.locator("#answer mark").all_inner_texts() == ["fruit", "red", "red fruit"]
        assert "Precision" in page.locator("#answer .measures").inner_text()


def test_by_keyboard_alone(browser: Browser) -> None:
    with serving() as address, opened(browser, address) as page:
        for _ in range(len(EXAMPLES) + 2):
            if page.evaluate("document.activeElement.id") != "instruction":
                page.keyboard.press("Tab")
        page.keyboard.type("Name a fruit.")
        page.keyboard.press("Tab")
        page.keyboard.type("An apple is a fruit.")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.keyboard.type("It rains.")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#answer .candidate")
        assert page.evaluate("document.activeElement.id") == "results-title"
        assert page.locator("#answer .candidate").count() == 2
        page.get_by_role("button", name="Remove response 2").press("Enter")
        assert page.evaluate("document.activeElement.value") == "An apple is a fruit."
        unnamed = "all => all.filter(one => !one.labels?.length && !one.ariaLabel && !one.textContent.trim()).length"
        assert page.eval_on_selector_all("button, input, select, textarea", unnamed) == 0


def test_hostile_texts_stay_texts(browser: Browser) -> None:
    with serving() as address, opened(browser, address, width=360) as page:
        for hostile in HOSTILE:
            text = hostile[:150_000]
            page.reload()
            ask(page, text, text)
            shown = page.locator("#answer .candidate > .text").inner_text()
            assert shown.split() == text.translate(PICTURES).split()
            assert page.locator("#answer :is(script, img, textarea, a)").count() == 0
            assert page.evaluate(SIDEWAYS) == 0


def rate_by_length(request: Request) -> str:
    length = len(request.messages[-1].content.rpartition("\n\n")[2])
    return json.dumps({"REASONING": f"<b>{length}</b> letters", "SCORE": length})


def test_a_judge_shows_its_reasoning_and_rating(browser: Browser) -> None:
    reward = PointwiseJudge(ScriptedEngine(rate_by_length))
    with serving(reward) as address, opened(browser, address) as page:
        ask(page, "Name a fruit.", "Fig", "Apple", "")
        judged = page.locator("#answer .judgement").all_inner_texts()
        assert [one.split()[1] for one in judged] == ["5", "3", "none"]
        assert "<b>5</b> letters" in judged[0]
        assert "empty response: the response is blank" in judged[2]
        assert "#2 has the highest reward" in page.locator("#status").inner_text()


def test_a_judge_that_chooses_shows_its_choice(browser: Browser) -> None:
    reward = ListwiseJudge(ScriptedEngine(lambda _request: '{"REASONING": "the first", "BEST_RESPONSE_INDEX": 0}'))
    with serving(reward) as address, opened(browser, address) as page:
        ask(page, "Name a fruit.", "Fig", "Apple")
        assert page.locator("#answer .tag.chosen").all_inner_texts() == ["highest"]
        assert "the first" in page.locator("#answer").inner_text()


@pytest.mark.parametrize(
    ("reward", "shown"),
    [("0.5*flip + 0.5*longest", ["flip", "longest"]), ("backward-likelihood", ["log probability", "tokens"])],
)
def test_what_a_reward_is_made_of_is_shown(tmp_path: Path, browser: Browser, reward: str, shown: list[str]) -> None:
    with Served(tmp_path, "--ui", "--model", "scripted", "-r", reward) as served:
        address = f"http://127.0.0.1:{served.port}/"
        with opened(browser, address) as page:
            ask(page, "Name a fruit.", "An apple is a fruit.")
            names = page.locator("#answer .measures dt").all_inner_texts()
            assert set(shown) <= set(names), names


def test_a_failing_engine_is_said_and_no_low_reward(browser: Browser) -> None:
    def fail(_request: Request) -> str:
        raise EngineServerError("no answer <i>today</i>")

    with serving(FlipReward(ScriptedEngine(fail))) as address, opened(browser, address) as page:
        ask(page, "Name a fruit.", "Fig")
        said = page.locator("#answer .judgement").inner_text()
        assert "none" in said
        assert "could not be asked; try again" in said
        assert "no answer <i>today</i>" in said


def test_mistakes_and_a_server_that_is_gone_are_said(browser: Browser) -> None:
    with serving() as address:
        context = opened(browser, address, complaints=1)
        page = context.__enter__()
        ask(page, "  ", "Fig")
        assert "instruction is empty" in page.get_by_role("alert").inner_text()
    page.get_by_label("Instruction").fill("Name a fruit.")
    page.get_by_role("button", name="Reward").click()
    page.wait_for_selector("#ask:not([hidden])")
    assert "does not answer" in page.get_by_role("alert").inner_text()
    context.__exit__(None, None, None)


def test_the_key_is_asked_for_and_kept_nowhere(browser: Browser) -> None:
    with serving(api_key="hush") as address, opened(browser, address, complaints=1) as page:
        assert page.locator("#kicker").inner_text() == "flip-reward serve", "anybody may load the page"
        for wrong in ("wrong", "“hush”"):
            page.get_by_label("Key").fill(wrong)
            ask(page, "Name a fruit.", "Fig")
            assert "does not know this key" in page.get_by_role("alert").inner_text()
            assert page.evaluate("document.activeElement.id") == "key"
        page.get_by_label("Key").fill("hush")
        page.keyboard.press("Enter")
        page.wait_for_selector("#answer .candidate")
        assert "scripted" in page.locator("#kicker").inner_text()
        kept = "[localStorage.length, sessionStorage.length, document.cookie, location.href]"
        assert page.evaluate(kept) == [0, 0, "", address]
        page.reload()
        assert page.get_by_label("Key").input_value() == ""


def test_a_slow_question_can_be_stopped(browser: Browser) -> None:
    engine = ScriptedEngine(latency_seconds=60)
    with serving(FlipReward(engine)) as address, opened(browser, address) as page:
        page.get_by_label("Instruction").fill("Name a fruit.")
        page.locator("#responses textarea").fill("Fig")
        page.keyboard.press("Control+Enter")
        page.get_by_role("button", name="Stop").press("Enter")
        assert page.get_by_role("alert").inner_text() == "Stopped."


def test_the_space_serves_the_page_within_small_limits(tmp_path: Path) -> None:
    _, _, command = (Path(__file__).parents[2] / "examples/space/Dockerfile").read_text().rpartition("\nCMD ")
    name, serve, *options = json.loads(command.replace("\\\n", ""))
    assert (name, serve) == ("flip-reward", "serve")
    assert options[options.index("--port") + 1] == "7860"
    others = {"7860": "0", "embedded": "scripted"}
    with Served(tmp_path, *[others.get(option, option) for option in options]) as served:
        group = {"prompt": "Name a fruit.", "responses": ["Fig"] * 9}
        _, answer = served.ask("/v1/rewards", {"groups": [group]})
        assert answer["results"][0]["error"]["type"] == "too_large"
        assert served.process.poll() is None
