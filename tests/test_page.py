"""Pages are read back with Python's own HTML parser."""

import base64
import io
import math
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from keras_inception.report.page import Picture, Section, Table, write_page

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "'; DROP TABLE images; --",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &amp;",
    "</title></style></table>",
    "Zoë 写真 🐈",
]
VOID = {"meta", "img"}


class _Parsed(HTMLParser):
    """Collects tags, attributes and the text of each element, and sees that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.attributes, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.texts.append([tag, ""])
        if tag not in VOID:
            self.open.append((tag, len(self.texts) - 1))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1][1]][1] += data

    def of(self, tag):
        return [text for name, text in self.texts if name == tag]

    def values(self, tag, name):
        return [value for found, attribute, value in self.attributes if (found, attribute) == (tag, name)]


def png(width=3, height=2):
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "PNG")
    return file.getvalue()


def parsed(path, sections=(), title="title", lead="lead"):
    write_page(path, title=title, lead=lead, sections=sections)
    return _Parsed(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", HOSTILE)
def test_everything_given_is_text(tmp_path, text):
    section = Section(text, text, [Table([text], [[text]], text)], [Picture(png(), text), Picture(png(), "", text)])
    page = parsed(tmp_path / "page.html", [section] * 3, title=text, lead=text)
    plain = parsed(
        tmp_path / "plain.html", [Section("a", "a", [Table(["a"], [["a"]], "a")], [Picture(png(), "a")] * 2)] * 3
    )
    assert [tag for tag, _ in page.texts] == [tag for tag, _ in plain.texts]
    for tag in ("title", "h1", "h2", "p", "caption", "th", "td", "figcaption", "a"):
        assert set(page.of(tag)) <= {text, ""}, tag
        assert text in page.of(tag), tag
    assert set(page.values("img", "alt")) == {text}


@settings(deadline=None, max_examples=25)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_text_is_read_back(tmp_path_factory, text):
    page = parsed(tmp_path_factory.mktemp("page") / "page.html", [Section("s", "", [Table(["c"], [[text]])])])
    assert page.of("td") == [text]


def test_a_name_that_is_no_utf8_is_escaped(tmp_path):
    page = parsed(tmp_path / "page.html", [Section("s", "", [Table(["file"], [["caf\udce9.jpg"]])])])
    assert page.of("td") == [r"caf\udce9.jpg"]


def test_it_fetches_and_runs_nothing(tmp_path):
    path = tmp_path / "page.html"
    section = Section("s", "t", [Table(["a"], [[1]])], [Picture(png(), "c")])
    page = parsed(path, [section] * 3)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.texts}
    assert {name for _, name, _ in page.attributes if name in ("src", "href", "srcset", "style")} == {"src", "href"}
    assert all(value.startswith("data:image/png;base64,") for value in page.values("img", "src"))
    assert page.values("a", "href") == ["#section-1", "#section-2", "#section-3"]
    assert page.values("section", "id") == ["section-1", "section-2", "section-3"]
    text = path.read_text()
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text


def test_pictures_stand_inside_unchanged(tmp_path):
    given_pngs = [png(3, 2), png(200, 100)]
    page = parsed(tmp_path / "page.html", [Section("s", pictures=[Picture(one, "c", "alt") for one in given_pngs])])
    found = [base64.b64decode(value.split(",", 1)[1]) for value in page.values("img", "src")]
    assert found == given_pngs
    assert page.values("img", "alt") == ["alt", "alt"]


def test_numbers_are_written_for_people_and_stand_to_the_right(tmp_path):
    row = ["1234", 1234567, np.int64(-1000), 0.123456, np.float32(2.5), 12345.6, math.nan, math.inf, 0]
    page = parsed(tmp_path / "page.html", [Section("s", "", [Table(["c"] * len(row), [row])])])
    assert page.of("td") == ["1234", "1,234,567", "-1,000", "0.1235", "2.5", "12,346", "–", "–", "0"]
    assert page.values("td", "class") == ["number"] * (len(row) - 1)
    assert page.values("th", "class") == ["number"] * (len(row) - 1)


def test_blank_lines_part_paragraphs(tmp_path):
    page = parsed(tmp_path / "page.html", [Section("s", "one\ntwo\n\n\nthree\n")], lead="four\n\nfive")
    assert page.of("p") == ["four", "five", "one\ntwo", "three"]


def test_few_sections_need_no_list_and_an_empty_page_is_a_page(tmp_path):
    assert "nav" not in dict(parsed(tmp_path / "a.html", [Section("s")] * 2).texts)
    assert parsed(tmp_path / "b.html", lead="").of("p") == []
    assert parsed(tmp_path / "c.html", [Section("s", "", [Table(["a", "b"], [])])]).of("th") == ["a", "b"]


def test_an_error_leaves_the_old_page(tmp_path):
    path = tmp_path / "page.html"
    write_page(path, title="old", lead="", sections=[])
    old = path.read_bytes()
    with pytest.raises(TypeError):
        write_page(path, title="new", lead="", sections=[Section("s", "", [Table(["a"], [[None]])])])
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
