"""What the tests look for on the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def settled(page: Page) -> Page:
    """The page, when the answer is there."""
    page.wait_for_function(
        """() => !document.querySelector('[aria-busy]')
          && document.querySelector('#status').textContent !== ''
          && !document.querySelector('.card.blank')"""
    )
    return page


def until(page: Page, expression: str) -> None:
    """Wait until an expression of JavaScript is true."""
    page.wait_for_function(f"() => {expression}")  # a function: the page allows no eval


def status(page: Page) -> str:
    """What a screen reader is told."""
    return settled(page).locator("#status").inner_text()


def group(page: Page, name: str) -> Locator:
    """The strip of a collection."""
    heading = page.locator("h2", has_text=name)
    return page.locator(".group").filter(has=heading)


def said(cards: Locator) -> list[str]:
    """What is said of cards: "1: text the number 7, score 0.912"."""
    return [str(one.get_attribute("aria-label")) for one in cards.locator("article").all()]


def names(cards: Locator) -> list[str]:
    """The names of cards: their labels, which are numbers here."""
    return cards.locator(".name").all_inner_texts()
