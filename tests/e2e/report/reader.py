"""A report open in a browser, and what a test asks about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flip_reward.report.evaluation.payload import BenchmarkPayload

if TYPE_CHECKING:
    from playwright.sync_api import Page

ITEMS = 120
"""How many pairs the report of these tests has besides the hostile ones."""


@dataclass
class Made:
    """A report, and what it was made of."""

    address: str
    llmbar: BenchmarkPayload
    texts: list[str]


@dataclass
class Reader:
    """A page, and what went wrong on it."""

    page: Page
    address: str
    title: str
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, hash_: str = "") -> Page:
        self.page.goto("about:blank")
        self.page.goto(self.address + hash_)
        self.page.wait_for_selector("#list button", state="attached")
        self.page.wait_for_selector("#making dd", state="attached")
        return self.page


Read = Callable[..., Reader]
"""Opens pages; takes `width`, `height` and `dark`, and `shown` for a page other than the evaluation's."""


@dataclass
class Shown:
    """A page of a run, and its title."""

    address: str
    title: str
    folder: Path


HIDDEN = """() => {
  const bars = [...document.querySelectorAll("nav.bar, .steps")].map((bar) => bar.getBoundingClientRect());
  const least = Math.max(...bars.filter(({ top, height }) => height && top < 150).map(({ bottom }) => bottom), 0);
  const one = document.activeElement.closest("#sample-body") ?? document.getElementById("sample-title");
  const { top } = (one.id === "sample-body" ? document.activeElement : one).getBoundingClientRect();
  return top < least - 1 || top > innerHeight ? `${one.outerHTML.slice(0, 80)} ${top} ${least}` : "";
}"""
"""Which part of an open sample cannot be seen, of those that should be: its title, or what has the focus."""


def shown_ids(page: Page, made: Made) -> list[str]:
    indices = page.eval_on_selector_all("#list button", "buttons => buttons.map(button => +button.dataset.index)")
    return [made.llmbar.samples[index].id for index in indices]


def count(page: Page) -> str:
    return page.locator("#count").inner_text()


def choose(page: Page, name: str, value: str) -> None:
    page.get_by_role("combobox", name=name, exact=True).select_option(value)
