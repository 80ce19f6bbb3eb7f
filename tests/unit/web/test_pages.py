"""The page: what its files are allowed to have, and how they are served."""

import gzip
import re
from html.parser import HTMLParser

import pytest

from relaylib.media.catalogue import SENTENCES
from relaylib.media.form import Form
from relaylib.media.verdict import LOST, Word
from relaylib.source.gate import Presence
from relaylib.web.pages import FILES, pages
from relaylib.web.reply import complete
from relaylib.web.request import HttpRequest
from tools.lab.process import ROOT

FOLDER = ROOT / "relaylib/web/page"
TEXT = {path.name: path.read_text() for path in FOLDER.iterdir()}

WHOLE = 100 << 10
"""Bytes that the page may have in all."""

NAMESPACE = "http://www.w3.org/2000/svg"
"""Looks like an address, and is a name."""


def ask(path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Ask for a file, as a browser does."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = HttpRequest(path, {}, names, "192.0.2.1")
    status, found, body = complete(pages()[path].respond(request, 0.0), request, 0.0, None)
    return status, dict(found), body


class Tags(HTMLParser):
    """The tags of a document, with their attributes; and what is inside `script` and `style`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags = list[tuple[str, dict[str, str | None]]]()
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style"):
            self.inside += data.strip()


def test_the_page_is_small_and_all_of_it_is_served() -> None:
    """Every file is found at some path, and together they are small without compression."""
    assert {name for name, _ in FILES.values()} == set(TEXT)
    assert sum(len(ask(path)[2]) for path in FILES) < WHOLE


def test_the_page_asks_no_other_host() -> None:
    """No file has an address that is not relative: behind a proxy it may be in a folder, too."""
    for name, text in TEXT.items():
        assert not re.search(r"https?://", text.replace(NAMESPACE, "")), name
        assert not re.search(r"""(?:src|href)=["']/|url\(|@import|["']/[a-z]""", text), name


def test_nothing_runs_but_the_module() -> None:
    """The policy forbids scripts and styles in the document, so there are none; nor `innerHTML`."""
    document = Tags(TEXT["page.html"])
    assert not document.inside
    for tag, attributes in document.tags:
        assert not [each for each in attributes if each.startswith("on") or each == "style"], tag
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|document\.write", "".join(TEXT.values())
    )


def test_elements_that_the_module_wants_are_there() -> None:
    """Each id that the module looks up is in the document, once."""
    ids = [attributes["id"] for _, attributes in Tags(TEXT["page.html"]).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"""\$\("([^"]+)"\)""", TEXT["page.js"])) <= set(ids)


def test_both_languages_say_all() -> None:
    """Spanish and English have the same texts, with the same places to fill; no others are used."""
    table = TEXT["page.js"].partition("const TEXTS = {")[2].partition("\n};")[0]
    spanish, english = re.split(r"\n  en: \{", table)
    texts = [dict(re.findall(r'(\w+):\s+"([^"]*)"', language)) for language in (spanish, english)]
    assert list(texts[0]) == list(texts[1])
    for key, text in texts[0].items():
        assert set(re.findall(r"\{\d\}", text)) == set(re.findall(r"\{\d\}", texts[1][key])), key
    shown = [*Word, *Presence, "unknown"]
    shown = [getattr(each, "value", each) for each in shown]
    assert {f"{kind}_{word}" for kind in ("word", "means") for word in shown} <= set(texts[0])
    used = set(re.findall(r'\btext\("(\w+)"', TEXT["page.js"]))
    used |= {form.value for form in Form}
    used |= set(re.findall(r'data-t(?:-label)?="(\w+)"', TEXT["page.html"]))
    assert used <= set(texts[0])


def test_the_page_has_a_sentence_for_every_key() -> None:
    """In both languages, with the same values; the English ones are those of the log."""
    script = TEXT["page.js"].partition("const SENTENCES = {")[2].partition("\n};")[0]
    script = re.sub(r'"\s*\+ "', "", script)
    languages = re.split(r"\n  en: \{", script)
    spanish, english = (dict(re.findall(r'(\w+):\s+"([^"]*)"', each)) for each in languages)
    assert spanish.keys() == english.keys() == {*SENTENCES, LOST}
    for key, words in SENTENCES.items():
        plain = re.sub(r":\.?\d?[gf]\}", "}", words)
        assert english[key] == plain
        assert sorted(re.findall(r"\{\w+\}", spanish[key])) == sorted(re.findall(r"\{\w+\}", plain))


@pytest.mark.parametrize("path", sorted(FILES))
def test_strict_headers(path: str) -> None:
    """Each file has its own type, and a policy by which only the relay's own files load."""
    status, headers, body = ask(path)
    assert (status, headers["Content-Type"]) == (200, FILES[path][1])
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert body == (FOLDER / FILES[path][0]).read_bytes()


def test_browsers_keep_what_has_not_changed() -> None:
    """A browser asks whether a file has changed; if not it gets no body, else a compressed one."""
    _, headers, whole = ask("/page.js")
    assert headers["Cache-Control"] == "no-cache"
    assert ask("/page.js", if_none_match=headers["ETag"])[::2] == (304, b"")
    _, packed, body = ask("/page.js", if_none_match='"other"', accept_encoding="gzip, br")
    assert packed["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == whole
