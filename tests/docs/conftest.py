import contextlib
import functools
import http.server
import os
import pathlib
import shutil
import threading

import pytest
from playwright import sync_api

ROOT = pathlib.Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def site():
    """The folder of the documentation that `make docs` built."""
    folder = ROOT / "build" / "docs"
    if not folder.exists():
        pytest.fail("The documentation is not built: run `make docs`.")
    return folder


@pytest.fixture(scope="session")
def url(site):
    """Where the documentation is served on this machine."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=site)
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with contextlib.ExitStack() as stack:
        try:
            driver = stack.enter_context(sync_api.sync_playwright())
            browser = driver.chromium.launch(
                executable_path=path, args=BROWSER_OPTIONS
            )
        except sync_api.Error as error:
            reason = f"no Chromium (see .ci/install_browser): {error}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, url):
    """Opens pages, and sees to it that nothing goes wrong in them."""
    troubles = []
    contexts = []

    def open_page(path="/index.html", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on(
            "console",
            lambda message: (
                message.type in ("error", "warning")
                and troubles.append(f"{page.url}: {message.text}")
            ),
        )
        page.on("pageerror", lambda error: troubles.append(f"{error}"))
        page.on(
            "request",
            lambda request: (
                request.url.startswith((url, "data:"))
                or troubles.append(f"{page.url} asks for {request.url}")
            ),
        )
        page.on(
            "response",
            lambda response: (
                response.status < 400
                or troubles.append(f"{response.status}: {response.url}")
            ),
        )
        page.goto(url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not troubles
