"""The page of `inspect`: what is in the file, and how it looks and behaves in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from llmzip.inspection import Inspection, other_compressors
from llmzip.inspection.display_text import pieces, printable
from llmzip.inspection.page import page
from tests.cli.test_cli import Run, run, work  # noqa: F401  fixtures
from tests.inspection.test_inspect import NASTY, inspected
from tests.support import browser as browsers
from tests.support.codecs import TEXT

NAME = "<b>\"nasty\" & 'long' " + "n" * 120 + ".txt"
CONTENT = TEXT[:2500] + NASTY + "مرحبا بالعالم، هذا نص من اليمين إلى اليسار.\n".encode() + TEXT[2500:5000]


def made(content: bytes, seed: int = 1) -> Inspection:
    """As if inspected: tokens of one to six bytes, costs of all kinds, guesses among which the token itself is at times."""
    rng = np.random.default_rng(seed)
    ends = rng.integers(1, 7, len(content)).cumsum()
    starts = np.concatenate([[0], ends[ends < len(content)]])
    tokens = [content[a:b] for a, b in zip(starts.tolist(), [*starts[1:].tolist(), len(content)], strict=True)]
    number = {word: i for i, word in enumerate(dict.fromkeys(tokens))}
    symbols = np.array([number[t] for t in tokens], np.int32)
    bits = np.minimum(rng.exponential(2.5, len(tokens)) ** 1.35, 28)
    bits[:8] = [0.01, 0.7, 1.5, 3, 6, 10, 14, 22]
    guesses = rng.integers(0, len(number), (len(tokens), 5)).astype(np.int32)
    guesses[::2, 0] = symbols[::2]
    chances = -np.sort(-rng.random((len(tokens), 5)) / 5, axis=1)
    words = {i: word for word, i in number.items()}
    archive = int(bits.sum() / 8) + 40
    others = other_compressors.sizes(content)
    return Inspection(
        content, content, "local:tiny", 6, [1], starts, symbols, bits, guesses, chances, words, archive - 40, archive, ["coded"], others
    )


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def between(text: str, start: str, end: str) -> str:
    """What stands between the only `start` and the next `end`."""
    assert text.count(start) == 1
    return text.partition(start)[2].partition(end)[0]


def test_the_file_is_safe_and_self_contained() -> None:
    found = made(CONTENT)
    text = page(found, NAME, len(CONTENT))
    found_tags = Tags(text).found
    tags = [tag for tag, _ in found_tags]
    assert tags.count("script") == 2  # the data and what draws it: none comes from the text
    assert "b" not in tags
    assert "alert(" not in re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.S).replace("alert(&quot;", "")
    attributes = [name for _, given in found_tags for name in given]
    assert not any(name.startswith("on") or name in ("src", "href", "style", "srcset") for name in attributes)
    policy = next(given["content"] for tag, given in found_tags if given.get("http-equiv") == "Content-Security-Policy")
    assert policy
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for rule, tag in (("style-src", "style"), ("script-src", "script")):
        part = between(text, f"<{tag}>", f"</{tag}>")
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"
    data = json.loads(between(text, '<script type="application/json" id="data">', "</script>"))
    assert "".join(data["pieces"]) == printable(CONTENT, layout=True)
    assert len(data["own"]) == len(data["bits"]) == len(data["guesses"]) / 5 == len(found)
    assert sum(data["sizes"]) == len(CONTENT)
    assert data["words"][data["own"][5]] == printable(found.token(5).data)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)


@pytest.mark.slow
def test_command(run: Run, work: Path) -> None:  # noqa: F811
    (work / "a.txt").write_bytes(TEXT[:400])
    said = inspected(run("inspect", "a.txt", "--html", "out.html"))
    assert said.startswith("a.txt: 400 bytes")  # the summary, without the tokens
    assert sorted(p.name for p in work.iterdir()) == ["a.txt", "out.html"]
    text = (work / "out.html").read_text("utf-8")
    assert inspected(run("inspect", "-q", "-f", "a.txt", "--html", "out.html")) == ""
    assert inspected(run("inspect", "a.txt", "--html", "-")) == text
    assert json.loads(inspected(run("inspect", "--json", "-f", "--html", "out.html", "a.txt")))["bytes"] == 400
    part = inspected(run("inspect", "--bytes", "100", "--html", "-", "a.txt"))
    assert "the first 100 of 400 bytes" in part


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = browsers.chromium()
    with sync_playwright() as p:
        started = p.chromium.launch(executable_path=path)
        yield started
        started.close()


class Opened:
    """A page in a window; fails at the end if the page complained of anything or asked for anything."""

    def __init__(self, chromium: Browser, path: Path, width: int, scheme: Any, touch: bool = False) -> None:
        self._context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, has_touch=touch)
        self.page: Page = self._context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text))
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("request", lambda r: self.complaints.append(r.url) if r.url != path.as_uri() else None)
        self.page.goto(path.as_uri())
        self.tokens: Locator = self.page.locator("#tokens span")
        self.tip: Locator = self.page.locator("#tip")

    def close(self) -> None:
        self._context.close()
        assert self.complaints == []

    def fits(self) -> None:
        """Nothing can be scrolled sideways, and nothing that is seen hangs out."""
        assert self.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        if self.tip.is_visible():
            box, wide = self.tip.bounding_box(), self.page.evaluate("document.documentElement.clientWidth")
            assert box
            assert 0 <= box["x"] <= box["x"] + box["width"] <= wide

    def colours(self, element: Locator) -> tuple[list[float], list[float]]:
        """Text colour, and the colour it stands on."""
        script = """element => {
            const parse = (c) => c.match(/[\\d.]+/g).map(Number);
            const ink = parse(getComputedStyle(element).color);
            for (let e = element; e; e = e.parentElement) {
                const paper = parse(getComputedStyle(e).backgroundColor);
                if (paper.length === 3 || paper[3] === 1) return [ink, paper];
            }
            return [ink, [255, 255, 255]];
        }"""
        ink, paper = element.evaluate(script)
        return ink, paper


def luminance(colour: list[float]) -> float:
    """Relative, as WCAG 2 defines it."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(ink: list[float], paper: list[float]) -> float:
    high, low = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(scope="session")
def nasty_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "nasty.html"
    path.write_text(page(made(CONTENT), NAME, len(CONTENT) + 1000), "utf-8")
    return path


@pytest.fixture(params=[(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")], ids=lambda p: f"{p[0]}-{p[1]}")
def opened(request: pytest.FixtureRequest, chromium: Browser, nasty_page: Path) -> Iterator[Opened]:
    window = Opened(chromium, nasty_page, *request.param)
    window.scheme = request.param[1]  # type: ignore[attr-defined]
    yield window
    window.close()


@pytest.mark.slow
def test_looks(opened: Opened) -> None:
    """Colours as the scheme wants them, legible; the heats all differ; nothing hangs out; the text is there, and only text."""
    opened.fits()
    assert opened.page.title() == f"{NAME} – llmzip inspect"
    assert opened.page.locator("#tokens").text_content() == printable(CONTENT, layout=True)
    assert opened.page.locator("#tokens script").count() == 0
    light = luminance(opened.colours(opened.page.locator("body"))[1])
    assert light < 0.02 if opened.scheme == "dark" else light > 0.9  # type: ignore[attr-defined]
    papers = []
    for h in range(8):
        ink, paper = opened.colours(opened.page.locator(f"#tokens .h{h}").first)
        assert contrast(ink, paper) >= 4.5, h
        papers.append(tuple(paper))
    assert len(set(papers)) == 8
    for place in (".about", ".hint", "dt", "dd", "th", "td", ".bands dd", ".plot .x", ".key li", ".instead", ".where"):
        assert contrast(*opened.colours(opened.page.locator(place).first)) >= 4.5, place
    for chart in ("svg.histogram", ".plot svg"):
        box = opened.page.locator(chart).bounding_box()
        assert box
        assert box["width"] > 200
        assert box["height"] > 80
    rows = [row.split()[0] for row in opened.page.locator(".sizes tbody tr").all_inner_texts()]
    assert sorted(rows) == ["gzip", "llmzip", "xz", "zstd"]
    for share in range(1, 11):  # what is out of sight has not been laid out yet
        opened.page.evaluate(f"scrollTo(0, document.body.scrollHeight * {share / 10})")
        opened.fits()


@pytest.mark.slow
def test_what_was_expected_shows_under_the_pointer(opened: Opened) -> None:
    assert opened.tip.is_hidden()
    found = made(CONTENT)
    for i in (0, 7, 40):
        opened.tokens.nth(i).hover()
        text = opened.tip.inner_text()
        assert f"{found.bits[i]:.2f} bits" in text
        assert f"byte {found.starts[i]:,}" in text
        assert printable(found.token(i).guesses[0].data) in text
        assert opened.tip.locator("li").count() in (5, 6)
        assert opened.tip.locator("li.own").count() >= 1
        opened.fits()
    opened.page.mouse.move(2, 2)
    assert opened.tip.is_hidden()


@pytest.mark.slow
def test_keyboard(opened: Opened) -> None:
    """One stop of the tab key; arrows move; Escape closes; the tip is announced as the token's description."""
    keys = opened.page.keyboard
    opened.page.locator(".dear button").last.focus()
    keys.press("Tab")
    described = opened.page.locator("[aria-describedby=tip]")
    for key, i in ((None, 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", -1), ("ArrowRight", -1), ("Home", 0)):
        if key:
            keys.press(key)
        token = opened.tokens.last if i < 0 else opened.tokens.nth(i)
        assert token.evaluate("e => e === document.activeElement"), key
        assert token.get_attribute("aria-describedby") == "tip"
        assert described.count() == 1
        assert opened.tip.is_visible()
        opened.fits()
    top = opened.page.evaluate("document.activeElement.getBoundingClientRect().top")
    keys.press("ArrowDown")
    assert opened.page.evaluate("document.activeElement.getClientRects()[0].top") > top
    keys.press("Escape")
    assert opened.tip.is_hidden()
    keys.press("Tab")
    assert not opened.page.evaluate("document.activeElement.matches('#tokens span')")


@pytest.mark.slow
def test_the_most_expensive_lead_to_their_place(opened: Opened) -> None:
    dear = made(CONTENT).dearest(3)
    for i in (0, 2):
        opened.page.locator(".dear button").nth(i).click()
        assert f"{made(CONTENT).bits[dear[i]]:.2f} bits" in opened.tip.inner_text()
        assert opened.page.locator("#tokens span:focus").count() == 1
        box = opened.page.locator("#tokens span:focus").bounding_box()
        assert box
        assert 0 < box["y"] < 800
        opened.page.wait_for_timeout(300)  # what scrolled into sight has been laid out, and moved the rest
        rects = opened.page.evaluate("[document.activeElement.getClientRects()[0], document.getElementById('tip').getBoundingClientRect()]")
        assert -1 < max(rects[1]["top"] - rects[0]["bottom"], rects[0]["top"] - rects[1]["bottom"]) < 12
        opened.fits()


@pytest.mark.slow
def test_touch(chromium: Browser, nasty_page: Path) -> None:
    window = Opened(chromium, nasty_page, 360, "light", touch=True)
    window.tokens.nth(6).tap()
    assert window.tip.is_visible()
    window.fits()
    window.page.locator(".hint").tap()
    assert window.tip.is_hidden()
    window.close()


@pytest.mark.slow
def test_long_text_stays_usable(chromium: Browser, tmp_path: Path) -> None:
    """Over 30,000 tokens: not much larger than its data, drawn in seconds, answering at once."""
    found = made((TEXT * 8)[:115_000])
    assert len(found) > 30_000
    path = tmp_path / "long.html"
    path.write_text(page(found, "long.txt", len(found.content)), "utf-8")
    assert path.stat().st_size < 3_000_000
    start = time.perf_counter()
    window = Opened(chromium, path, 1280, "light")
    assert window.tokens.count() == len(pieces(found))
    assert time.perf_counter() - start < 20
    window.tokens.nth(3).hover()
    start = time.perf_counter()
    for _ in range(20):
        window.page.keyboard.press("End")
        window.page.keyboard.press("Home")
        window.tokens.nth(5).click()
    assert window.tip.is_visible()
    assert time.perf_counter() - start < 20
    window.fits()
    window.close()


@pytest.mark.slow
def test_an_empty_text(run: Run, work: Path, chromium: Browser) -> None:  # noqa: F811
    inspected(run("inspect", "-q", "--html", "empty.html", stdin=b""))
    window = Opened(chromium, work / "empty.html", 360, "dark")
    window.fits()
    assert window.tokens.count() == 0
    window.close()
