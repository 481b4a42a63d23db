"""The HTML report in a real browser: headless Chromium, from disk."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import plan
from harness.comparators.interface import Examined, Part, Status
from harness.models import (
    ArtifactDifference,
    Bisection,
    ComparisonResult,
    Isolation,
    Model,
    Outcome,
    Policy,
    Report,
    Verdict,
)
from harness.reports.difference import difference_page
from harness.reports.html import HtmlReporter
from harness.variations import control, draw
from harness.verdict import judge_model
from tests.unit.samples import names, record, replayed, report, sha, toolchain

pytestmark = pytest.mark.integration

STAGES = ("simplified", "graph", "tensor-ir", "llvm", "assembly", "object", "library")
ODD = names(3)[2]
EVIL = "</script><script>alert(1)</script><img src=//evil.example/x onerror=alert(2)>\u202e\x1b[31m"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=1280,900",
)  # fmt: skip


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless, without a sandbox of its own: these tests may run as root."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    tool = shutil.which("chromedriver")
    if browser is None or tool is None:
        pytest.skip("no Chromium with its driver: install chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(tool))
    yield started
    started.quit()


class Browser:
    """One opened report, and what can be asked of it."""

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver = driver
        self.path = path
        self.screen(1280)
        self.colours("light")
        driver.get_log("browser")
        driver.get_log("performance")
        driver.get("about:blank")
        driver.get(path.as_uri())

    def js(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def all(self, selector: str) -> list[Any]:
        found: list[Any] = self.driver.find_elements("css selector", selector)
        return found

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def shown(self, selector: str) -> int:
        return sum(1 for element in self.all(selector) if element.is_displayed())

    def keys(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def wait(self, code: str) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 10).until(lambda _: self.js(f"return Boolean({code})"))

    def search(self, words: str, count: str) -> None:
        box = self.one("#search")
        box.clear()
        box.send_keys(words)
        self.wait(f"document.getElementById('count').textContent === '{count}'")

    def screen(self, width: int) -> None:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def colours(self, scheme: str, media: str = "") -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"media": media, "features": features}
        )

    def quiet(self) -> None:
        """No alert, no word on the console, no request but for the file itself."""
        from selenium.common.exceptions import NoAlertPresentException

        with pytest.raises(NoAlertPresentException):
            _ = self.driver.switch_to.alert.text
        assert self.driver.get_log("browser") == []
        asked = {
            message["params"]["request"]["url"]
            for entry in self.driver.get_log("performance")
            if (message := json.loads(entry["message"])["message"])["method"]
            == "Network.requestWillBeSent"
        }
        assert asked <= {"about:blank", self.path.as_uri()}


def finding(words: str = "") -> tuple[Report, dict[str, Examined]]:
    """Two models by three toolchains; the third stands alone at ``llvm`` of the first model, and
    a build of the second one failed. ``words`` are added to what a toolchain says."""
    models = [Model(name, f"/{name}.onnx", sha(name), {"x": (1, 8)}) for name in ("one", "two")]
    files = {f"{stage}/file{words}": stage.encode() for stage in STAGES}
    builds = [
        record(name, variation, files, model=model)
        for model in models
        for name in names(3)
        for variation in (control(), draw(1))
    ]
    detail = f"out of registers{words}"
    builds[-1] = replace(
        record(ODD, draw(1), model=models[1], outcome=Outcome.FAILED, detail=detail),
        isolation=Isolation.NONE,
    )
    builds = [
        replace(b, stage_ends={s: float(n) for n, s in enumerate(b.stages, 1)}) for b in builds
    ]
    part = Part(
        "function", f"fused_add{words}", Status.CHANGED, 20, 24,
        ("@@ 3 @@", " entry:", "-  call @safe()", f"+  call @other(){words}", "   ret"),
    )  # fmt: skip
    results, details = [], {}
    for comparison in plan.comparisons([b for b in builds if b.outcome is Outcome.BUILT]):
        sides = (comparison.left, comparison.right)
        alone = sum(ODD in side for side in sides) == 1
        if comparison.model == "one" and comparison.stage == "llvm" and alone:
            name = f"file{words}"
            found = ArtifactDifference(name, sha("l"), sha("r"), reason=f"refused{words}")
            results.append(ComparisonResult(comparison, Verdict.UNEXPLAINED, 1, (found,)))
            details["|".join((*sides, "llvm", name))] = Examined("LLVM IR", (part,), same=9)
        else:
            results.append(ComparisonResult(comparison, Verdict.IDENTICAL, 1))
    replays = [replayed(build) for build in builds[:-1]]
    verdicts = tuple(
        judge_model(
            model,
            [b.id for b in builds if b.model == model.name],
            [b for b in builds if b.model == model.name],
            [r for r in results if r.comparison.model == model.name],
            [r for r in replays if r.model == model.name],
            Policy(),
        )
        for model in models
    )
    what = replace(
        report(builds, results, replays, verdicts=verdicts),
        models=tuple(models),
        isolation=Isolation.NONE,
        bisections=(Bisection("one", ODD, "llvm", ("clock",), 7, f"differs{words}"),),
        notes=(f"a note{words}",),
    )
    return what, details


def opened(driver: Any, folder: Path, words: str = "") -> Browser:
    path = folder / "report.html"
    path.write_text(HtmlReporter().render(*finding(words)), "utf-8")
    return Browser(driver, path)


@pytest.fixture
def page(driver: Any, tmp_path: Path) -> Browser:
    return opened(driver, tmp_path)


def test_the_verdict_and_the_matrix_are_what_is_seen_first(page: Browser) -> None:
    assert page.one("h1").text == "≠ UNEXPLAINED"
    assert "do not release" in page.one(".meaning").text
    top = page.one("header").text
    assert "isolation: none." in top
    assert "INCONCLUSIVE for 1 of 2 models: two" in top
    assert page.js("return document.querySelector('#matrix').getBoundingClientRect().top < 900")
    cells = [cell.text for cell in page.all("#matrix details tr[data-bad] > *")]
    assert cells == ["llvm", "= IDENTICAL", "≠ UNEXPLAINED", "–", "≠ UNEXPLAINED"]
    assert f"odd one out: {ODD}" in page.one("#matrix .first").text
    page.quiet()


def test_drill_down_by_click(page: Browser) -> None:
    page.one("#close-all").click()
    assert page.shown(".diff") == 0
    page.one("#matrix .overview a.to").click()
    page.wait("document.querySelector('.finding').open")
    page.one(".finding > .pair > summary").click()
    page.one(".finding .pair .part > summary").click()
    page.wait("document.querySelectorAll('.columns').length === 1")
    left, right = page.all(".columns .diff")
    assert "call @safe()" in left.text
    assert "call @other()" not in left.text
    assert "call @other()" in right.text
    assert page.js("return arguments[0].querySelector('mark').textContent", right) == "other"
    heights = [side.size["height"] for side in (left, right)]
    assert heights[0] == heights[1]
    page.one("#wide").click()
    assert page.shown(".columns") == 0
    assert "-  call @safe()\n+  call @other()" in page.one(".part > .diff").text
    page.quiet()


def test_drill_down_by_keyboard(page: Browser) -> None:
    from selenium.webdriver import Keys

    page.one("#close-all").click()
    for _ in range(40):
        page.keys(Keys.TAB)
        if page.js("return document.activeElement.matches('a.to')"):
            break
    ring = page.js("return getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"
    page.keys(Keys.ENTER)
    page.wait("document.activeElement.matches('.finding > summary')")
    assert page.js("return document.querySelector('.finding').open")
    for _ in range(40):
        if page.js("return document.activeElement.matches('.part > summary')"):
            break
        if page.js("return document.activeElement.matches('.pair:not([open]) > summary')"):
            page.keys(Keys.ENTER)
        page.keys(Keys.TAB)
    page.keys(Keys.ENTER)
    page.wait("document.activeElement.parentElement.open")
    assert page.shown(".columns .diff") == 2
    page.quiet()


def test_times_are_drawn(page: Browser) -> None:
    lines = page.all("#timings details[open] .line")
    assert len(lines) == 6
    boxes = page.js(
        "return [...arguments[0].querySelectorAll('rect')].map((r) => r.getBoundingClientRect())"
        ".map((r) => [r.left, r.width])",
        lines[0],
    )
    assert len(boxes) == len(STAGES)
    # One beside the other, each as long as its stage.
    assert all(width == pytest.approx(boxes[0][1], 0.02) for _, width in boxes)
    assert [left for left, _ in boxes] == sorted({left for left, _ in boxes})
    assert "tensor-ir" in page.js("return arguments[0].textContent", lines[0])
    bars = page.js("return [...document.querySelectorAll('#timings .time .bar')].map("
                   "(bar) => bar.getBoundingClientRect().width)")  # fmt: skip
    assert len(bars) == 6 * (len(STAGES) + 1)
    assert max(bars) == pytest.approx(100, 0.01)
    page.one(".contents a[href='#timings']").click()
    page.wait("Math.abs(document.querySelector('#timings').getBoundingClientRect().top) < 120")
    page.quiet()


def difference(driver: Any, folder: Path, words: str = "") -> Browser:
    lines = ("@@ 1 @@", " same", "-a = add b c", "+a new line", "+a = add b d" + words,
             "+" + "long " * 70, " end")  # fmt: skip
    parts = (
        Part("function", f"one{words}", Status.CHANGED, 1, 2, lines, note=words),
        Part("function", f"two{words}", Status.CHANGED, 1, 2, ("-x", "+y")),
    )
    found = {f"file{words}": Examined("text", parts, notes=(words,) if words else ())}
    path = folder / "difference.html"
    command = ["harness", "diff", f"left{words}", f"right{words}"]
    path.write_text(
        difference_page(f"left{words}", f"right{words}", found, False, command), "utf-8"
    )
    return Browser(driver, path)


def test_a_difference_stands_side_by_side(driver: Any, tmp_path: Path) -> None:
    page = difference(driver, tmp_path)
    assert "DIFFERENT" in page.one("h1").text
    rows = page.js(
        "return [...document.querySelectorAll('.columns .diff')].map((side) =>"
        " [...side.children].map((line) => [line.textContent, line.getBoundingClientRect().top]))"
    )
    words = [[text.strip() for text, _ in side] for side in rows]
    assert words[0] == ["@@ 1 @@", "same", "", "-a = add b c", "", "end"]
    assert words[1][2:4] == ["+a new line", "+a = add b d"]
    # Also where a line on one side takes several.
    assert [top for _, top in rows[0]] == [top for _, top in rows[1]]
    assert rows[0][5][1] - rows[0][4][1] > 1.9 * (rows[0][1][1] - rows[0][0][1])
    marked = page.js(
        "return [...document.querySelectorAll('.columns mark')].map(m => m.textContent)"
    )
    assert marked == ["c", "d"]
    page.search("two", "1 of 2 shown")
    assert page.shown(".part") == 1
    page.keys("\ue00c")
    page.screen(360)
    assert page.js("return document.documentElement.scrollWidth") <= 360
    page.quiet()


def test_hostile_text_in_a_difference_does_nothing(driver: Any, tmp_path: Path) -> None:
    page = difference(driver, tmp_path, EVIL)
    page.one("#open-all").click()
    assert "<script>alert(1)</script>" in page.one("main").text
    assert page.all("img") == []
    page.quiet()


def test_search_and_filter(page: Browser) -> None:
    from selenium.webdriver import Keys

    total = len(page.all(".f"))
    page.keys("/")
    assert page.js("return document.activeElement.id") == "search"
    page.keys("registers")
    page.wait("document.getElementById('count').textContent !== ''")
    # The finding that reports the failed build, and the build itself.
    assert page.one("#count").text == f"2 of {total} shown"
    assert page.shown(".build") == 1
    page.keys(Keys.ESCAPE)
    page.wait("document.getElementById('count').textContent === ''")
    assert page.shown(".build") == 12
    page.search(sha("r")[:20].upper(), f"1 of {total} shown")
    assert page.shown(".finding") == 1
    page.search("no such words", f"0 of {total} shown")
    page.keys(Keys.ESCAPE)
    page.one("#bad").click()
    page.wait("document.getElementById('count').textContent !== ''")
    assert page.shown(".build") == 1
    assert page.shown(".finding") == 2
    page.one("#bad").click()
    assert page.shown(".build") == 12
    page.quiet()


def test_a_search_opens_what_is_folded_and_folds_it_again(page: Browser) -> None:
    from selenium.webdriver import Keys

    page.one("#close-all").click()
    assert page.shown("#artifacts details tr.f") == 0
    box = page.one("#search")
    box.send_keys(sha("tensor-ir"))
    page.wait("document.getElementById('count').textContent !== ''")
    assert page.shown("#artifacts details tr.f") == 2
    box.send_keys(Keys.ESCAPE)
    page.wait("document.querySelectorAll('details[open]').length === 0")
    page.quiet()


def test_copy(page: Browser) -> None:
    from selenium.webdriver import Keys

    page.one("#open-all").click()
    digests = page.all(".digest")
    assert len(digests) > 30
    assert len(page.all(".digest > .copy")) == len(digests)
    assert len(page.all(".command > .copy")) == len(page.all(".command"))
    for selector in (".finding .digest", ".finding .command", ".build .command"):
        whole = page.js(
            "return document.querySelector(arguments[0] + ' code').textContent", selector
        )
        page.one(f"{selector} .copy").click()
        page.wait("document.getElementById('said').textContent === 'copied'")
        box = page.one("#search")
        box.clear()
        box.send_keys(Keys.CONTROL, "v")
        assert box.get_attribute("value") == whole
        box.send_keys(Keys.ESCAPE)
        page.js("document.getElementById('said').textContent = ''")
    page.quiet()


def test_hostile_text_does_nothing(driver: Any, tmp_path: Path) -> None:
    page = opened(driver, tmp_path, EVIL)
    page.one("#open-all").click()
    page.one("#wide").click()
    page.one("#wide").click()
    page.keys("/", "evil")
    page.wait("document.getElementById('count').textContent !== ''")
    assert page.all("img, iframe, object, embed, form, base, link") == []
    assert len(page.all("script")) == 1
    assert "\\u202e\\x1b[31m" in page.one(".finding").text
    assert "<script>alert(1)</script>" in page.one(".finding .columns").text
    assert page.one("h1").text == "≠ UNEXPLAINED"
    page.quiet()


def test_the_policy_stops_what_would_run_or_load(page: Browser) -> None:
    """Were something to get through, it could not act. (This test makes it get through.)"""
    page.quiet()
    stopped = page.driver.execute_async_script(
        """
        const done = arguments[0], stopped = [];
        document.addEventListener("securitypolicyviolation", (event) => {
          stopped.push(event.effectiveDirective);
          if (stopped.length === 4) done(stopped.sort());
        });
        const add = (name, change) => {
          const element = document.createElement(name);
          change(element);
          document.body.append(element);
        };
        add("script", (it) => { it.textContent = "window.acted = 1"; });
        add("style", (it) => { it.textContent = "body { display: none }"; });
        add("img", (it) => { it.src = "http://127.0.0.1:9/x.png"; });
        add("div", (it) => { it.setAttribute("onclick", "window.acted = 2"); it.click(); });
        """
    )
    assert stopped == ["img-src", "script-src-attr", "script-src-elem", "style-src-elem"]
    assert page.js("return window.acted") is None
    assert page.one("h1").is_displayed()


def contrast(page: Browser, selector: str) -> float:
    """Between an element's text and what is behind it, as WCAG 2 counts it."""
    code = """
    const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
    let at = arguments[0];
    const text = numbers(getComputedStyle(at).color);
    let behind = numbers(getComputedStyle(at).backgroundColor);
    while (behind.length > 3 && behind[3] === 0) {
      at = at.parentElement;
      behind = numbers(getComputedStyle(at).backgroundColor);
    }
    return [text.slice(0, 3), behind.slice(0, 3)];
    """

    def light(colour: list[float]) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (part / 255 for part in colour)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((light(c) for c in page.js(code, page.one(selector))), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_can_be_read(page: Browser, scheme: str) -> None:
    page.colours(scheme)
    background = page.js("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    for selector in (
        "h1 .v", ".meaning", ".warning", ".quiet", ".v-identical", ".v-inconclusive", "a",
        ".finding small", "thead th", "button", ".diff del", ".diff ins", ".diff ins mark",
        ".alarm",
    ):  # fmt: skip
        assert contrast(page, selector) >= 4.5, selector


def test_on_a_phone_the_page_does_not_scroll_sideways(driver: Any, tmp_path: Path) -> None:
    page = opened(driver, tmp_path, EVIL + "x" * 300)
    page.screen(360)
    page.one("#open-all").click()
    assert page.js("return document.documentElement.scrollWidth") <= 360
    assert page.js("return document.body.scrollWidth") <= 360
    # What is wider scrolls in its own box.
    wide = (
        "return [...document.querySelectorAll('.box')].some((b) => b.scrollWidth > b.clientWidth)"
    )
    assert page.js(wide)
    page.quiet()


def test_print_shows_everything(page: Browser) -> None:
    page.one("#close-all").click()
    page.colours("light", media="print")
    hidden = """
    return [...document.querySelectorAll("dd, td, .part > .diff > *")].filter(
      (element) => !element.checkVisibility({ contentVisibilityAuto: true })
        || element.getBoundingClientRect().height === 0
    ).length;
    """
    assert page.js(hidden) == 0
    assert page.shown(".tools") == 0
    assert page.shown(".copy") == 0
    widths = """
    return [...document.querySelectorAll(".digest code")].filter(
      (element) => element.scrollWidth > element.clientWidth + 1
    ).length;
    """
    assert page.js(widths) == 0
    page.screen(720)  # about what A4 has between its margins
    wide = "[...document.querySelectorAll('.box')].filter((b) => b.scrollWidth > b.clientWidth)"
    assert page.js(f"return {wide}.map((b) => b.ariaLabel)") == []
    page.colours("light")
    printed = page.driver.execute_cdp_cmd("Page.printToPDF", {})
    assert len(printed["data"]) > 50_000
    assert page.all("details[open]") == []  # as it was before
    page.quiet()


def test_without_script_it_reads_all_the_same(driver: Any, tmp_path: Path) -> None:
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page = opened(driver, tmp_path)
        assert page.shown(".build dd") == 0
        page.one(".build > summary").click()
        assert page.shown(".build dd") > 5
        assert "-  call @safe()" in page.one(".part > .diff").text
        page.quiet()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def many() -> Report:
    """500 builds: 10 models by 10 toolchains, each five times, 40 artifacts a build."""
    toolchains = names(10)
    variations = [control(), *(draw(1, number) for number in range(1, 5))]
    models, builds, results, verdicts = [], [], [], []
    for number in range(10):
        model = Model(f"model-{number}", f"/m{number}.onnx", sha(str(number)), {"x": (1, 8)})
        files = {f"{stage}/file": f"{stage}{number}".encode() for stage in STAGES}
        files |= {f"constants/c{n}": f"{number}.{n}".encode() for n in range(33)}
        own = [
            record(name, variation, files, model=model)
            for name in toolchains
            for variation in variations
        ]
        compared = []
        for comparison in plan.comparisons(own):
            if number == 3 and comparison.stage == "llvm" and toolchains[7] in comparison.right:
                found = ArtifactDifference("file", sha("l"), sha("r"), reason="no rule applies")
                result = ComparisonResult(comparison, Verdict.UNEXPLAINED, 1, (found,))
            elif comparison.stage == "graph":
                sides = (sha(comparison.left), sha(comparison.right))
                found = ArtifactDifference("file", *sides, ("rule",), sha("n"), 12)
                result = ComparisonResult(comparison, Verdict.EXPLAINED, 1, (found,))
            else:
                result = ComparisonResult(comparison, Verdict.IDENTICAL, 1)
            compared.append(result)
        models.append(model)
        builds += own
        results += compared
        ids = [build.id for build in own]
        verdicts.append(judge_model(model, ids, own, compared, [], Policy()))
    command = tuple(f"--bind /some/longer/path/number/{n}" for n in range(100))
    ends = {stage: float(n) for n, stage in enumerate(STAGES, 1)}
    builds = [replace(build, command=command, stage_ends=ends) for build in builds]
    replays = [replayed(build) for build in builds]
    what = report(builds, results, replays, verdicts=tuple(verdicts))
    return replace(what, models=tuple(models), toolchains=tuple(map(toolchain, toolchains)))


def test_five_hundred_builds(driver: Any, tmp_path: Path, capsys: Any) -> None:
    """The goal is under a second. It is measured and printed; a busy machine proves nothing."""
    path = tmp_path / "many.html"
    path.write_text(HtmlReporter().render(many()), "utf-8")
    page = Browser(driver, path)
    page.wait("performance.getEntriesByName('first-contentful-paint').length")
    times = page.js(
        "const n = performance.getEntriesByType('navigation')[0];"
        "const paint = performance.getEntriesByName('first-contentful-paint')[0];"
        "return [n.loadEventEnd, paint.startTime]"
    )
    assert len(page.all(".build")) == 500
    searched = page.js(
        "const t = performance.now(); search.value = 'model-3 llvm'; filter();"
        "document.body.getBoundingClientRect(); return performance.now() - t"
    )
    with capsys.disabled():
        sys.stdout.write(
            f"\n500 builds: {path.stat().st_size / 2**20:.1f} MiB, loaded after {times[0]:.0f} ms, "
            f"first paint {times[1]:.0f} ms, first search {searched:.0f} ms\n"
        )
    page.quiet()
