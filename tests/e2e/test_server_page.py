"""The page in Chromium: what it shows, what it keeps out, and the same in a single file."""

import shutil

import pytest

import draftwood as dw
from draftwood.page.document import run_document

pytest.importorskip("torch")
pytest.importorskip("fastapi", reason="pip install 'draftwood[server]'")
sync = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
from serving import served, until  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("Chromium is not installed (apt-get install chromium)", allow_module_level=True)

ATTACK = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def llm():
    with dw.load("demo", cost="none") as model:
        yield model


@pytest.fixture(scope="module")
def server(llm):
    with served(llm) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with sync.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser):
    """A page; it fails the test that it says anything to the console, such as a blocked script."""
    context = browser.new_context(viewport={"width": 390, "height": 800})
    made = context.new_page()
    said = []
    made.on("console", lambda message: said.append(message.text))
    made.on("pageerror", lambda error: said.append(str(error)))
    asked = []
    made.on("request", lambda request: asked.append(request.url))
    made.said, made.asked = said, asked
    yield made
    context.close()
    assert said == []


def ask(page, server, text, **fields):
    page.goto(server.url)
    page.get_by_text("demo", exact=True).wait_for()  # no wait_for_function: the policy bars eval
    page.fill("#text", text)
    page.fill("#tokens", "40")
    for name, value in fields.items():
        page.fill(f"#{name}", value)


def answered(page):
    page.click("#go")
    page.locator(".run").first.wait_for()
    page.locator("#go:not([disabled])").wait_for()


def test_an_answer_is_shown_with_the_source_of_each_token(page, server):
    ask(page, server, "SELECT title FROM films", namespace="page")
    page.check("input[value=prompt]", force=True)
    answered(page)
    shown = "".join(page.locator(".run .text .token").all_text_contents())
    plain = server.engine.llm.generate("SELECT title FROM films", max_tokens=40, chat=False)
    assert shown == plain.text
    assert page.locator(".run .text .own, .run .text .shared").count() > 0
    page.locator(".run .text .own, .run .text .shared").first.hover()
    detail = page.locator(".run .detail").text_content()
    assert "drafted by recall from" in detail
    assert "namespace page" in detail
    page.locator(".run .text").focus()
    page.keyboard.press("Home")
    assert "step 1 · the model's own token" in page.locator(".run .detail").text_content()
    page.keyboard.press("ArrowRight")
    assert page.locator(".run .text .at").get_attribute("data-at") == "1"
    first = page.locator("#namespaces tr td").first
    until(lambda: first.text_content() == "page")
    assert all(url.startswith((server.url, "data:")) for url in page.asked)


def test_side_by_side_the_texts_are_one(page, server):
    ask(page, server, "List all open orders.")
    page.check("#beside")
    answered(page)
    drafted, plain = page.locator(".run").all()
    assert plain.locator(".text .token:not(.model)").count() == 0
    assert "The same text" in page.locator(".verdict").text_content()
    assert drafted.locator(".text").text_content() == plain.locator(".text").text_content()


def test_what_holds_html_stays_text(page, server):
    ask(page, server, ATTACK, namespace=ATTACK)
    answered(page)
    assert page.locator(".asked").first.text_content() == ATTACK
    until(lambda: ATTACK in page.locator("#namespaces").text_content())
    assert page.locator("#log img, #log script, #namespaces img, #namespaces script").count() == 0
    assert page.title() == "Draftwood"


def test_a_phone_needs_no_scrolling_sideways(page, server):
    ask(page, server, "List all open orders.")
    answered(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_everything_to_use_has_a_name(page, server):
    page.goto(server.url)
    names = page.evaluate(
        """() => [...document.querySelectorAll('input, textarea, button, section, form')]
            .filter(e => !e.labels?.length && !e.getAttribute('aria-label')
                && !e.getAttribute('aria-labelledby') && !e.textContent.trim())
            .map(e => e.outerHTML)"""
    )
    assert names == []


def test_a_wrong_request_is_said(page, server):
    ask(page, server, "x " * 3000)
    page.fill("#tokens", "99999")
    page.click("#go")
    page.wait_for_selector("#said.wrong")
    assert "more than" in page.locator("#said").text_content()
    page.said[:] = [each for each in page.said if "400 (Bad Request)" not in each]


def test_the_policy_allows_nothing_from_elsewhere_and_no_inline_script(server):
    httpx2 = pytest.importorskip("httpx2", reason="openai's client brings it")
    answer = httpx2.get(server.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "<script>" not in answer.text
    assert " on" + "click=" not in answer.text
    assert httpx2.get(f"{server.url}/page/../keys").status_code == 404
    assert httpx2.get(f"{server.url}/page/%2e%2e%2fserver%2fkeys.py").status_code == 404


def test_a_finished_run_is_one_file_that_asks_nobody(page, llm, tmp_path):
    done = llm.generate("List all open orders.", max_tokens=40)
    run = {**done.as_run(), "title": ATTACK, "namespace": ATTACK}
    run["tokens"][0]["text"] = "</script>" + ATTACK + run["tokens"][0]["text"]
    run["text"] = "".join(token["text"] for token in run["tokens"])
    path = tmp_path / "run.html"
    path.write_text(run_document([run], title=ATTACK), encoding="utf-8")
    page.goto(path.as_uri())
    page.wait_for_selector(".run")
    assert page.locator(".run .text").text_content() == run["text"]
    assert page.locator(".run img, .run script").count() == 0
    assert page.title() == ATTACK
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []
    count = page.locator(".run .text .token").count()
    page.click("text=Replay")
    page.locator(".run button:not([disabled])").wait_for()
    assert page.locator(".run .text .token").count() == count


def test_a_notebook_shows_it_in_a_frame(llm):
    shown = llm.generate("List all open orders.", max_tokens=8)._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert 'sandbox="allow-scripts"' in shown
    assert "<script" not in shown  # all of it is escaped


def test_the_command_writes_the_file(tmp_path, monkeypatch, capsys):
    import sys

    from draftwood.cli import app

    out = tmp_path / "out.html"
    words = ["generate", "--model", "demo", "--prompt", "List", "--max-tokens", "8", "--cost"]
    monkeypatch.setattr(sys, "argv", ["draftwood", *words, "none", "--html", str(out)])
    with pytest.raises(SystemExit) as left:
        app.main()
    assert not left.value.code
    assert "showFinished" in out.read_text()
    assert capsys.readouterr().out.strip()
