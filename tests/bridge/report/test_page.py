"""Report pages: whole, escaped, accessible, and without anything from elsewhere."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tissuebridge.report.page import (
    Drawing,
    Estimate,
    Matrix,
    Notice,
    Picture,
    Section,
    Table,
    Text,
    page_html,
    write_page,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)


class Elements(HTMLParser):
    """Collects elements with their attributes, and checks that all are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.found if found == tag]


def example_page() -> str:
    table = Table("Scores", ["Class", "F1", "Cells"], [["Tumor", 0.51234, 1200], ["Stroma", None, "few"]])
    pictures = [Picture(PIXELS, 'The "left" <part>', "Left", width=24), Picture(PIXELS, "The right part")]
    return page_html("Demo", [Section("Found", [Text("See below."), table, *pictures])])


def test_all_elements_are_closed_in_order() -> None:
    assert Elements(example_page()).open == []


def test_text_from_outside_is_shown_and_never_taken_for_html() -> None:
    evil = "<script>alert('x')</script> & \"y\""
    sections = [Section(evil, [Text(evil), Table(evil, [evil], [[evil]]), Picture(PIXELS, evil, evil)])]

    html = page_html(evil, sections)

    assert Elements(html).all("script") == []
    assert html.count("&lt;script&gt;") >= 7
    assert Elements(html).all("img")[0]["alt"] == evil


def test_nothing_is_loaded_from_elsewhere() -> None:
    html = example_page()

    assert not re.search(r"https?:|src=\"(?!data:)|url\(|@import", html)
    assert "default-src 'none'" in html


def test_a_picture_carries_its_pixels_and_says_what_it_shows() -> None:
    image = Elements(example_page()).all("img")[0]

    data = base64.b64decode(str(image["src"]).removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.array(Image.open(io.BytesIO(data))), PIXELS)
    assert (image["alt"], image["width"], image["height"]) == ('The "left" <part>', "24", "16")


def test_a_drawing_is_embedded_for_light_and_for_dark_pages() -> None:
    drawing = Drawing("<svg>light</svg>", "<svg>dark</svg>", "What it shows", "", (520, 340))

    page = Elements(page_html("x", [Section("y", [drawing])]))

    [image], [source] = page.all("img"), page.all("source")
    assert (image["alt"], image["width"], image["height"]) == ("What it shows", "520", "340")
    for uri, svg in ((image["src"], drawing.svg), (source["srcset"], drawing.dark)):
        assert base64.b64decode(str(uri).removeprefix("data:image/svg+xml;base64,")).decode() == svg


def test_pictures_that_follow_each_other_stand_in_one_row() -> None:
    assert example_page().count('class="pictures"') == 1


def test_table_headers_say_what_they_head() -> None:
    headers = Elements(example_page()).all("th")

    assert [header["scope"] for header in headers] == ["col", "col", "col", "row", "row"]


def test_measures_have_three_decimals_and_missing_ones_a_dash() -> None:
    html = example_page()

    assert ">0.512<" in html
    assert ">1,200<" in html
    assert 'aria-label="none"' in html


def test_a_row_that_does_not_fit_its_header_is_refused() -> None:
    with pytest.raises(ValueError, match="2 values under a header of 1"):
        page_html("x", [Section("y", [Table("z", ["a"], [["b", 1]])])])


def test_the_page_is_written_whole_as_utf8(tmp_path: Path) -> None:
    write_page(tmp_path / "new" / "page.html", "Größe in µm", [])

    assert "<h1>Größe in µm</h1>" in (tmp_path / "new" / "page.html").read_text(encoding="utf-8")


def page_of(*content: Text | Notice | Table | Matrix | Picture) -> str:
    return page_html("Page", [Section("Section", content)])


def test_an_interval_stands_below_its_measure() -> None:
    html = page_of(Table("T", ["Class", "F1"], [["a", Estimate(0.5, (0.25, 0.75))], ["b", Estimate(0.5)]]))

    assert "0.500<small>0.250–0.750</small>" in html
    assert html.count("<small>") == 1
    assert [cell["class"] for cell in Elements(html).all("td")] == ["number", "number"]


def test_a_matrix_tells_right_from_wrong_and_how_large_a_share_of_its_row_each_is() -> None:
    matrix = Matrix(
        "M", "True / called", ["a", "b", "none"], ["a", "b", "missed"], [[6, 1, 3], [0, 0, 0], [0, 4, 0]]
    )

    cells = Elements(page_of(matrix)).all("td")

    kinds = [str(cell["class"]).removeprefix("number share ") for cell in cells]
    assert kinds == ["right", "wrong", "wrong", *["number"] * 3, "wrong", "wrong", "wrong"]
    assert [cell.get("style") for cell in cells][:4] == [
        "--share: 0.600",
        "--share: 0.100",
        "--share: 0.300",
        None,
    ]
    assert "<small>60.0%</small>" in page_of(matrix)


def test_a_notice_stands_out_and_is_escaped() -> None:
    html = page_of(Notice("seen <in> training"), Text("plain"))

    notice, plain = Elements(html).all("p")
    assert (notice, plain) == ({"class": "notice", "role": "note"}, {})
    assert "seen &lt;in&gt; training" in html


def test_a_picture_may_have_another_one_for_dark_pages() -> None:
    html = page_of(Picture(PIXELS, "curve", dark=255 - PIXELS))

    source, image = Elements(html).all("source")[0], Elements(html).all("img")[0]
    assert source["media"] == "(prefers-color-scheme: dark)"
    assert source["srcset"] != image["src"]
    assert "<picture>" not in page_of(Picture(PIXELS, "curve"))


def test_a_photograph_is_stored_as_jpeg_with_its_colours() -> None:
    red = np.full((16, 16, 3), (200, 30, 30), np.uint8)

    image = Elements(page_of(Picture(red, "red", is_photograph=True))).all("img")[0]

    data = base64.b64decode(str(image["src"]).removeprefix("data:image/jpeg;base64,"))
    assert np.abs(np.array(Image.open(io.BytesIO(data))).astype(int) - red).max() < 6
