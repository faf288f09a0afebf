"""Every link inside of the built documentation leads somewhere."""

import html.parser
import posixpath
import urllib.parse


class Page(html.parser.HTMLParser):
    """The links of a page, and what they may lead to."""

    def __init__(self, text):
        super().__init__()
        self.links = set()
        self.anchors = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs.get("id"), attrs.get("name")}
        for name in ("href", "src"):
            if attrs.get(name):
                self.links.add(attrs[name])


def test_no_link_is_broken(site):
    pages = {
        path.relative_to(site).as_posix(): Page(path.read_text("utf-8"))
        for path in site.rglob("*.html")
    }
    assert len(pages) > 20
    broken = []
    for name, page in pages.items():
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path = urllib.parse.unquote(parts.path)
            target = posixpath.normpath(
                posixpath.join(posixpath.dirname(name), path) if path else name
            )
            fragment = urllib.parse.unquote(parts.fragment)
            known = target in pages or (site / target).is_file()
            if not known or (
                fragment
                and target in pages
                and fragment not in pages[target].anchors
            ):
                broken.append(f"{name} -> {link}")
    assert not broken
