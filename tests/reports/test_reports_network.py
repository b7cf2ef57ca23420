"""The section on a session's Lightning network: the picture, the tables, what is missing, and names that are HTML."""

from __future__ import annotations

import itertools
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from ledgers.canonical import to_canonical
from ledgers.lightning.session_network import NetworkTold, read_session_network
from reports.html import write_report
from reports.network import network_section
from reports.network_picture import NARROW_PX, WIDE_PX, arrows_of, draw_network, sat_text

SVG = "{http://www.w3.org/2000/svg}"
LETTER_PX = 5.4  # what a letter of 12 px takes at least in the narrowest of the page's faces


def told(*, spokes: int = 3, payments: list[dict[str, Any]] | None = None, **changes: Any) -> NetworkTold:
    """A hub with spokes named a, b, c...; a pays b 224 750 msat unless other payments are given."""
    names = [chr(ord("a") + place) for place in range(spokes)]

    def node(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "account": None if name == "hub" else f"account_of_{name}",
            "public_key": f"02{name}",
            "state": "active",
            "policy": {"base_fee_msat": 1000, "fee_rate_ppm": 1, "time_lock_delta": 80},
            "before_msat": 5_000_000_000,
            "after_msat": 5_000_000_000,
            "sent_msat": 0,
            "received_msat": 0,
            "fees_paid_msat": 0,
            "fees_earned_msat": 0,
        }

    balance = {
        "opener_msat": 4_998_978_000,
        "peer_msat": 5_000_000_000,
        "pending_msat": 0,
        "pending_htlcs": 0,
        "commitment_msat": 1_022_000,
        "exact": True,
    }
    document = {
        "schema": "v2gbench.lightning-session/1.0",
        "name": "session",
        "chain": "regtest",
        "height_before": 458,
        "height_after": 458,
        "nodes": [node("hub"), *(node(name) for name in names)],
        "channels": [
            {
                "opener": "hub",
                "peer": name,
                "point": f"{'ab' * 32}:1",
                "capacity_sat": 10_000_000,
                "active": True,
                "before": balance,
                "after": balance,
            }
            for name in names
        ],
        "payments": [payment()] if payments is None else payments,
        "costs": None,
        **changes,
    }
    return read_session_network(to_canonical(document), where="network.json")


def payment(payer: str = "a", payee: str = "b", **changes: Any) -> dict[str, Any]:
    return {
        "name": "x.0.import_energy",
        "kind": "import_energy",
        "payer": f"account_of_{payer}",
        "payee": f"account_of_{payee}",
        "payer_node": payer,
        "payee_node": payee,
        "payment_hash": "cd" * 32,
        "amount_msat": 224_750,
        "fee_msat": 1000,
        "held": True,
        "state": "paid",
        "routes": None,
        **changes,
    }


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("msat", "text"),
    [(0, "0.000"), (1, "0.001"), (-73_346, "\u221273.346"), (5_000_224_750, "5\u202f000\u202f224.750")],
)
def test_millisatoshi_are_shown_in_satoshi_without_losing_one(msat: int, text: str) -> None:
    assert sat_text(msat) == text


@pytest.mark.parametrize("width_px", [WIDE_PX, NARROW_PX])
@pytest.mark.parametrize("spokes", [1, 2, 3, 6])
def test_the_picture_is_whole_at_every_width_and_number_of_spokes(width_px: int, spokes: int) -> None:
    payments = [payment()] if spokes > 1 else [payment("a", "hub"), payment("hub", "a")]
    svg = draw_network(told(spokes=spokes, payments=payments), width_px=width_px)
    root = ET.fromstring(svg)
    left, top, width, height = (float(value) for value in root.attrib["viewBox"].split())
    assert width == width_px + 2
    for rect in root.iter(f"{SVG}rect"):
        x, y = float(rect.attrib["x"]), float(rect.attrib["y"])
        assert left <= x
        assert x + float(rect.attrib["width"]) <= left + width + 0.01
        assert top <= y
        assert y + float(rect.attrib["height"]) <= top + height + 0.01
    cards = [r for r in root.iter(f"{SVG}rect") if r.attrib["class"].startswith("card")]
    assert len(cards) == spokes + 1
    assert len([p for p in root.iter(f"{SVG}path") if p.attrib["class"].startswith("lane")]) == len(payments)
    boxes = [tuple(float(r.attrib[key]) for key in ("x", "y", "width", "height")) for r in cards]
    for place, (x, y, w, h) in enumerate(boxes):
        for other_x, other_y, other_w, other_h in boxes[place + 1 :]:
            apart = x + w <= other_x or other_x + other_w <= x or y + h <= other_y or other_y + other_h <= y
            assert apart, "two nodes lie on one another"


@pytest.mark.parametrize("width_px", [WIDE_PX, NARROW_PX])
def test_no_word_leaves_the_picture(width_px: int) -> None:
    many = [
        payment(kind="availability", amount_msat=9_999_999_999, state="cancelled", fee_msat=None),
        payment("b", "c"),
    ]
    root = ET.fromstring(draw_network(told(payments=many), width_px=width_px))
    for element in root.iter(f"{SVG}text"):
        length = LETTER_PX * len("".join(element.itertext()))
        x = float(element.attrib["x"])
        begin = x - length if element.attrib.get("text-anchor") == "end" else x
        assert begin >= 0
        assert begin + length <= width_px, "".join(element.itertext())


@pytest.mark.parametrize("width_px", [WIDE_PX, NARROW_PX])
@pytest.mark.parametrize("spokes", [2, 3, 6])
@pytest.mark.parametrize("state", ["active", "away"])
def test_no_arrow_goes_through_the_words_of_the_hub(width_px: int, spokes: int, state: str) -> None:
    names = [chr(ord("a") + place) for place in range(spokes)]
    every_way = [
        payment(payer, payee, kind=kind)
        for payer, payee in zip(names, [*names[1:], names[0]], strict=True)
        for kind in ("import_energy", "v2g_energy")
    ]
    document = told(spokes=spokes).model_dump(mode="json")
    document["nodes"][0]["state"] = state
    drawn = told(spokes=spokes, payments=every_way, nodes=document["nodes"])
    root = ET.fromstring(draw_network(drawn, width_px=width_px))
    words = [
        (float(element.attrib["x"]), float(element.attrib["y"]), text)
        for element in root.iter(f"{SVG}text")
        if (text := "".join(element.itertext())).startswith(("hub", "asks")) or text.endswith((" before", " after"))
    ]
    assert len(words) > 1
    for path in (path.attrib["d"] for path in root.iter(f"{SVG}path") if path.attrib["class"].startswith("lane")):
        points = [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]
        assert len(points) > 2
        for (x1, y1), (x2, y2) in itertools.pairwise(points):
            for x, y, text in words:
                beside = max(x1, x2) < x or x + LETTER_PX * len(text) < min(x1, x2)
                assert beside or max(y1, y2) < y - 12 or y + 3 < min(y1, y2), text


def test_an_arrow_says_what_was_paid_how_often_and_what_went_back() -> None:
    found = arrows_of(
        told(
            payments=[
                payment(),
                payment(amount_msat=50),
                payment("b", "c", kind="v2g_energy", state="held", fee_msat=None),
                payment(state="cancelled", fee_msat=None),
            ]
        ).payments
    )
    assert [arrow.label for arrow in found] == [
        "import energy 224.800 sat, 2 payments",
        "v2g energy 224.750 sat, waits",
        "import energy 224.750 sat, went back",
    ]


def test_many_kinds_are_drawn_as_one_arrow_between_two_nodes() -> None:
    slices = [payment(kind=f"kind_{number}") for number in range(40)]
    (arrow,) = arrows_of(told(payments=slices).payments)
    assert arrow.label == "payments 8\u202f990.000 sat, 40 payments"


def test_a_session_in_which_nothing_was_due_is_drawn_too() -> None:
    for width_px in (WIDE_PX, NARROW_PX):
        root = ET.fromstring(draw_network(told(payments=[]), width_px=width_px))
        assert list(root.iter(f"{SVG}path")) == []
        assert "hub" in texts(ET.tostring(root, encoding="unicode"))


def test_the_tables_have_each_payment_channel_and_node() -> None:
    section = network_section(told())
    nodes, channels, payments = section.tables
    assert [row[0].text for row in nodes.rows] == ["hub", "a", "b", "c"]
    assert [row[0].text for row in channels.rows] == ["hub \u2013 a", "hub \u2013 b", "hub \u2013 c"]
    assert [cell.text for cell in payments.rows[0][:5]] == ["import energy", "a → b", "224.750", "1.000", "paid"]


def test_balances_that_do_not_follow_are_said_in_words() -> None:
    assert "No money was made or lost" in network_section(told()).words[1]
    nodes = told().model_dump(mode="json")["nodes"]
    nodes[1]["after_msat"] -= 7
    assert "the balance of a changed by -7 msat, its payments make +0" in network_section(told(nodes=nodes)).words[1]


def test_a_node_that_is_away_and_a_channel_that_is_closed_are_named() -> None:
    document = told().model_dump(mode="json")
    document["nodes"][1] |= {"state": "away", "after_msat": None}
    document["channels"][0] |= {"after": None, "active": False}
    found = told(nodes=document["nodes"], channels=document["channels"])
    section = network_section(found)
    assert section.tables[0].rows[1][0].text == "a, which does not answer"
    shown = texts(section.drawings[0].wide)
    assert "after: not known" in shown
    assert "its balance is not known" in shown
    assert any("does not answer" in text for text in shown)


def test_a_name_that_is_html_stays_a_name() -> None:
    document = told().model_dump(mode="json")
    for part, key in (("nodes", "name"), ("nodes", "account"), ("channels", "peer")):
        document[part][-1][key] = "<script>alert(1)</script>"
    hostile = told(
        nodes=document["nodes"],
        channels=document["channels"],
        payments=[payment("<script>alert(1)</script>", "a", kind="<img src=x>")],
    )
    for drawing in (network_section(hostile).drawings[0].wide, network_section(hostile).drawings[0].narrow):
        assert "<script" not in drawing
        assert "<img" not in drawing
        ET.fromstring(drawing)


def test_what_channels_cost_is_shown_where_it_was_computed() -> None:
    channel = {
        "point": "ab:0",
        "opener": "hub",
        "peer": "driver",
        "opened_sat": 329,
        "close_sat": 386,
        "opener_force_close_sat": 1830,
        "peer_force_close_sat": 246,
        "session_msat": 715_000,
    }
    section = network_section(told(costs={"sat_per_kw": 500, "sessions": 1, "channels": (channel,)}))
    table = section.tables[-1]
    assert [cell.text for cell in table.rows[0]][1:] == ["329", "386", "1\u202f830", "246", "715.000"]
    assert "at the present 2 sat/vB; each serves 1 session." in table.caption
    assert network_section(told()).tables[-1].caption != table.caption


@pytest.fixture
def folder(session_folder: Path, tmp_path: Path) -> Path:
    copied = tmp_path / session_folder.name
    shutil.copytree(session_folder, copied)
    return copied


def test_a_run_without_nodes_has_no_such_section(folder: Path) -> None:
    page = write_report(folder).read_text(encoding="utf-8")
    assert 'id="network"' not in page
    assert "<svg class=" not in page


def test_a_run_with_nodes_shows_one_picture_for_wide_and_one_for_narrow_pages(folder: Path) -> None:
    (folder / "settlement").mkdir()
    (folder / "settlement" / "network.json").write_bytes(told().to_bytes())
    page = write_report(folder).read_text(encoding="utf-8")
    section = page[page.index('<section id="network">') :]
    section = section[: section.index("</section>")]
    assert section.count('<svg class="network"') == 2
    assert '<div class="drawing narrow">' in section
    fetched = set(re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')\s>]+)", section))
    assert fetched == set()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "settlement/network.json"),
        (to_canonical({"schema": "other/1.0"}), "settlement/network.json is no v2gbench.lightning-session/1.0: schema"),
    ],
)
def test_a_damaged_file_is_told_in_its_place(folder: Path, content: bytes, reason: str) -> None:
    (folder / "settlement").mkdir()
    (folder / "settlement" / "network.json").write_bytes(content)
    page = write_report(folder).read_text(encoding="utf-8")
    section = page[page.index('<section id="network">') :]
    assert f"Not available: {reason}" in section[:600]
    assert "Traceback" not in page
