"""The built documentation, as a reader sees it in a browser."""

import pathlib

import pytest

SCREENSHOTS = pathlib.Path(__file__).parents[2] / "build" / "screenshots"
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
PAGES = {
    "home": "/index.html",
    "guide": "/guides/label_once.html",
    "coming_from": "/coming_from/keras_distillation.html",
    "api_table": "/api/index.html",
    "losses": "/api/losses.html",
    "paper": "/paper.html",
    "api": "/api/distiller.html",
    "faq": "/faq.html",
}

NAVIGATION = ".sidebar-tree a.reference.internal"
MENU = "label[for='__navigation']"


def list_navigation(page):
    """Lists the addresses of the navigation, without their anchors."""
    links = page.locator(NAVIGATION).evaluate_all(
        "links => links.map(link => link.href.split('#')[0])"
    )
    return list(dict.fromkeys(links))


def find_link(page, address):
    """Returns the link of the navigation, once its branch is open."""
    position = page.locator(NAVIGATION).evaluate_all(
        "(links, address) => links.findIndex("
        "link => link.href.split('#')[0] === address)",
        address,
    )
    link = page.locator(NAVIGATION).nth(position)
    if not link.is_visible():
        page.locator(".sidebar-tree li.has-children > label").first.click()
    return link


def test_every_link_of_the_navigation_can_be_clicked(open_page):
    page = open_page(viewport=DESKTOP)
    addresses = list_navigation(page)
    assert len(addresses) > 20
    for address in addresses:
        find_link(page, address).click()
        page.wait_for_load_state()
        assert page.url.split("#")[0] == address
        assert page.locator("article h1").count() == 1


def test_next_leads_through_all_pages(open_page):
    page = open_page(viewport=DESKTOP)
    expected = set(list_navigation(page))
    visited = [page.url]
    while page.locator("a.next-page").count():
        page.locator("a.next-page").click()
        page.wait_for_load_state()
        assert page.url not in visited
        visited.append(page.url)
    assert expected <= set(visited)


def test_search_finds_a_class(open_page):
    page = open_page(viewport=DESKTOP)
    page.locator(".sidebar-search").fill("SoftTargetStore")
    page.locator(".sidebar-search").press("Enter")
    page.locator("#search-results li a").first.wait_for()
    assert "search.html" in page.url


def test_code_can_be_copied(open_page):
    page = open_page(viewport=DESKTOP)
    page.locator("div.highlight").first.hover()
    assert page.locator("button.copybtn").first.is_visible()


def test_theme_can_be_changed(open_page):
    page = open_page(viewport=DESKTOP)
    before = page.locator("body").get_attribute("data-theme")
    page.locator(".theme-toggle:visible").first.click()
    assert page.locator("body").get_attribute("data-theme") != before


def test_no_page_is_wider_than_a_phone(open_page):
    page = open_page(viewport=PHONE)
    for address in list_navigation(page):
        page.goto(address)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], address


def test_menu_opens_on_a_phone(open_page):
    page = open_page(viewport=PHONE)
    link = page.locator(NAVIGATION, has_text="Quickstart")
    assert not _is_on_screen(link, PHONE)
    page.locator(MENU).filter(visible=True).first.click()
    page.wait_for_timeout(500)
    assert _is_on_screen(link, PHONE)
    link.click()
    assert page.url.endswith("/quickstart.html")


def _is_on_screen(locator, size):
    box = locator.bounding_box()
    return box is not None and 0 <= box["x"] < size["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_screenshots(open_page, url, size, scheme):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page = open_page(viewport=size, color_scheme=scheme)
    device = "phone" if size is PHONE else "desktop"
    for name, path in PAGES.items():
        page.goto(url + path)
        picture = SCREENSHOTS / f"{name}_{device}_{scheme}.png"
        page.screenshot(path=picture)
        assert picture.stat().st_size > 10_000
