from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from reports.errors import RenderError
from reports.pack.age import render_age_report, write_age_report
from reports.plots import RenderedPlots

Json = Any  # a document as json.loads gives it

LAWS = ("b1", "schmalstieg", "naumann")
SHAPLEY = {"b1": 1.33, "schmalstieg": 9.9, "naumann": -0.4}  # points
LAST_IN = {"b1": 1.59, "schmalstieg": 9.1, "naumann": -0.6}
FIRST_IN = {"b1": 1.06, "schmalstieg": 10.7, "naumann": -0.2}
PARKED = {"b1": 6.9, "schmalstieg": 4.1, "naumann": 8.0}
DRIVING = {"b1": 0.77, "schmalstieg": 8.7, "naumann": -0.11}
CHEMISTRY = {"b1": "NMC/graphite", "schmalstieg": "NMC/graphite", "naumann": "LFP/graphite"}


def life(*, v2g: bool) -> Json:
    def loss(law: str) -> float:
        return PARKED[law] + DRIVING[law] + (SHAPLEY[law] if v2g else 0.0)

    def point(year: int) -> Json:
        share = (year / 5) ** 0.7
        return {
            "year": float(year),
            "capacity_percent": 100 - share * loss("b1"),
            "resistance_percent": 100 + share * loss("b1"),
            "efc": (192.0 if v2g else 102.0) * year,
            "km": 13_000.0 * year,
            "laws": {law: {"loss_points": share * loss(law), "outside_validity_share": 0.42} for law in LAWS},
        }

    energies = [
        {"use": "driving", "hours": 2000.0, "charged_wh": 1e6, "discharged_wh": 2e7, "discharged_ah": 5.7e4},
        {"use": "v2g", "hours": 2610.0, "charged_wh": 0.0, "discharged_wh": 1.8e7, "discharged_ah": 5.1e4},
    ]
    return {
        "uses": ["driving", "v2g"] if v2g else ["driving"],
        "years": [point(year) for year in range(1, 6)],
        "months": [
            {"day": 30 * month, "soh_percent": 100 - (month / 60) ** 0.7 * loss("b1"), "efc": 16.0 * month}
            for month in range(61)
        ],
        "energies": energies if v2g else energies[:1],
        "loss_wh": 5e5,
        "history": {"years": 5.0, "hot_h": 12.0, "rapid_charges": 60},
    }


def outlooks(*, v2g: bool) -> list[Json]:
    crossing = {"b1": 22.0, "schmalstieg": 6.5 if v2g else 13.0, "naumann": None}
    return [
        {
            "law": law,
            "ends_years": 8.0,
            "ends_by": "age",
            "capacity_at_end_percent": 84.0,
            "crossing_years": crossing[law],
            "remaining_years": None if crossing[law] is None else crossing[law] - 5,
            "simulated": False,
            "kept": (crossing[law] or 99) >= 8.0,
        }
        for law in LAWS
    ]


def week(charge: float) -> Json:
    return {
        "name": "winter",
        "first_day": 14,
        "period_s": 3600,
        "soc": [charge - 0.01 * (hour % 24) for hour in range(168)],
        "temperature_c": [8.0 + 0.1 * (hour % 24) for hour in range(168)],
        "ambient_c": [3.0] * 168,
        "power_w": [-7000.0 if hour % 24 == 19 else 0.0 for hour in range(168)],
    }


def series(charge: float) -> Json:
    hours = {
        "soc_edges": [0.0, 0.5, 1.0],
        "temperature_edges_c": [-10.0, 10.0, 30.0],
        "hours": [[0, 900], [3000, 4860]],
    }
    return {"hours": hours, "weeks": [week(charge)]}


def second_life(grade: str) -> Json:
    criterion = {
        "name": "resistance",
        "value": 163.0,
        "unit": "% of new",
        "limits": [150.0, 200.0, None],
        "at_least": False,
        "grade": grade,
    }
    return {
        "schema": "v2gbench.second_life/1.0",
        "manner_of": "ANSI/CAN/UL 1974; simulated",
        "capacity_ah": 104.7,
        "capacity_percent": 90.7,
        "energy_wh": 37_000.0,
        "resistance_ohm": 0.058,
        "resistance_percent": 163.0,
        "self_discharge_percent_per_month": 0.3,
        "history": {"hottest_c": 41.0, "hot_h": 12.0},
        "grade": grade,
        "reasons": [f"{grade}, not A: resistance of 163 % of new"],
        "criteria": [criterion],
    }


def age_document() -> Json:
    wear = [
        {
            "law": law,
            "chemistry": CHEMISTRY[law],
            "shapley_points": SHAPLEY[law],
            "last_in_points": LAST_IN[law],
            "first_in_points": FIRST_IN[law],
            "live_points": 1.25,
            "outside_validity_share": 0.42,
            "cost_micro": round(SHAPLEY[law] * 44e6),
            "cost_per_kwh_micro": round(SHAPLEY[law] * 2400),
            "cost_per_available_hour_micro": round(SHAPLEY[law] * 17_000),
            "cost_last_in_micro": round(LAST_IN[law] * 44e6),
            "cost_last_in_per_kwh_micro": round(LAST_IN[law] * 2400),
        }
        for law in LAWS
    ]
    shares = {
        law: [
            {
                "use": "driving",
                "shapley_points": DRIVING[law],
                "last_in_points": DRIVING[law] + 0.2,
                "first_in_points": DRIVING[law] - 0.2,
            },
            {
                "use": "v2g",
                "shapley_points": SHAPLEY[law],
                "last_in_points": LAST_IN[law],
                "first_in_points": FIRST_IN[law],
            },
        ]
        for law in LAWS
    }
    return {
        "schema": "v2gbench.age/1.0",
        "material": "simulated",
        "scenario": {
            "name": "danish",
            "title": "Commuting in Denmark",
            "seed": 1,
            "years": 5,
            "climate": {"place": "danish"},
            "driving": {"mean_w": 6000.0, "trips": {"morning": {"days": "weekdays", "depart": "07:30", "minutes": 45}}},
            "v2g": {"daily_discharge": {"discharge_w": 7000.0, "floor_percent": 20.0}},
            "prices": {"currency": "EUR", "battery_cents_per_kwh": 15_000, "second_life_cents_per_kwh": 4000},
        },
        "pack": "env200_40kwh",
        "years": 5,
        "laws": list(LAWS),
        "law_notes": {
            law: {
                "title": f"title of {law}",
                "source": "a journal",
                "chemistry": CHEMISTRY[law],
                "caveat": "cycling knows no temperature",
                "c_rate_convention": "none",
                "validity": {"temperature_c": [10.0, 45.0], "depth": [0.8, 1.0], "c_rate_max": 1.75},
            }
            for law in LAWS
        },
        "scales": {"calendar": 1.0, "cycle": 1.0},
        "uses": ["driving", "v2g"],
        "with_v2g": life(v2g=True),
        "without_v2g": life(v2g=False),
        "attribution": {
            "counterfactual": [
                {
                    "law": law,
                    "parked_points": PARKED[law],
                    "total_points": PARKED[law] + DRIVING[law] + SHAPLEY[law],
                    "shares": shares[law],
                }
                for law in LAWS
            ],
            "live_points": {law: {"time": PARKED[law], "driving": 0.8, "v2g": 1.25} for law in LAWS},
        },
        "warranty": {
            "line_percent": 70.0,
            "with_v2g": outlooks(v2g=True),
            "without_v2g": outlooks(v2g=False),
            "method": "law continued with the wear of its last year",
        },
        "v2g": {
            "contract": "daily_discharge",
            "delivered_kwh": 18_000.0,
            "asked_kwh": 18_200.0,
            "available_h": 2610.0,
            "currency": "EUR",
            "wear": wear,
            "spread_same_chemistry": {
                "low_points": 1.33,
                "low_law": "b1",
                "high_points": 9.9,
                "high_law": "schmalstieg",
            },
        },
        "second_life": {"with_v2g": second_life("B"), "without_v2g": second_life("A")},
        "series": {"with_v2g": series(0.7), "without_v2g": series(0.9)},
    }


def without_v2g() -> Json:
    document = age_document()
    document["v2g"] = None
    document["uses"] = ["driving"]
    document["with_v2g"] = document["without_v2g"]
    return document


def visible(html: str) -> str:
    """Words of the page as a reader sees them, with plain spaces and minus signs."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", html, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", " ", body).replace("&#39;", "'").replace("\u202f", " ").replace("\u2212", "-")
    return " ".join(text.split())


def titles(html: str) -> list[str]:
    return re.findall(r'<figure aria-label="([^"]+)"', html)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are made but not turned into scripts, which takes most of the time."""
    monkeypatch.setattr("reports.pack.age.embedded", lambda _: RenderedPlots("", "", defaultdict(str)))


@pytest.fixture(scope="module")
def html() -> str:
    return render_age_report(age_document(), origin="runs/a_life")


@pytest.fixture(scope="module")
def page(html: str) -> str:
    return visible(html)


def test_the_answer_is_the_range_over_all_laws_and_comes_first(page: str) -> None:
    assert page.index("V2G wears off -0.4 to 9.9 points of capacity in 5 years") < page.index("Capacity with V2G")
    assert "b1, the law that ages the pack here, says 1.33 (last in 1.59)" in page
    assert "laws for NMC/graphite say 1.33 to 9.90" in page


@pytest.mark.parametrize(
    "words",
    [
        "Capacity with V2G 91.0 % after 5 years by b1; laws say 77.3 to 92.5 %",
        "Capacity without V2G 92.3 %",
        "18 000 kWh 2 610 h available, 98.9 % of what was asked",
        "Wear per kWh delivered -0.1 to 2.4 cents",
        "naumann driving -0.110",
        "naumann V2G -0.400 -0.600 -0.200 +1.250",
        "schmalstieg would break the warranty",
        "schmalstieg 84.0 not kept 6.5 1.5 13.0",
        "naumann 84.0 kept not in sight",
        "Cycling knows no temperature. C-rate: none. 10 to 45 °C, 80 to 100 % depth, up to 1.75 C 42",
        "With V2G: B, not A: resistance of 163 % of new",
        "A: at most 150, B: at most 200, C: any B 163.00 A",
        "driving, trips, morning days weekdays, depart 07:30, minutes 45",
        "discharge 7000 W, floor 20 %",
        "Versions of the programs are not in the document.",
        "Laws are taken as published, unscaled.",
        "Nobody measured this battery.",
    ],
)
def test_the_report_says(page: str, words: str) -> None:
    assert words in page


def test_every_picture_is_there_and_says_what_to_see(html: str) -> None:
    assert titles(html) == [
        "V2G wear by law",
        "Capacity and resistance of the pack",
        "Capacity by every law",
        "Years until the warranty line is met",
        "Loss by cause, under every law",
        "Each use, four ways to ask (b1)",
        "Full cycles a year by use",
        "Cost of V2G wear",
        "A week in winter",
        "Charge and temperature together",
        "Charge and temperature, each for itself",
        "Loss accrued outside the tested range",
    ]
    captions = re.findall(r'<figcaption><strong>[^<]+</strong> <span class="detail">([^<]+)</span>', html)
    assert len(captions) == len(titles(html))
    assert all(len(caption.split()) > 5 and caption.endswith(".") for caption in captions)


def test_the_page_fetches_nothing(html: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;; script-src &#39;sha256-")
    assert not re.search(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=", html)


def test_a_scenario_without_v2g_tells_what_is_left_and_has_no_wear_of_v2g(undrawn: None) -> None:
    html = render_age_report(without_v2g())
    page = visible(html)
    assert re.search(r"\d\d\.\d to \d\d\.\d % of capacity are left after 5 years", page)
    assert "no V2G in this scenario" in page
    assert not {"V2G wear by law", "Cost of V2G wear"} & set(titles(html))


def test_a_document_without_series_says_what_it_cannot_show(undrawn: None) -> None:
    document = age_document()
    del document["series"]
    page = visible(render_age_report(document))
    assert "Not shown: the document has no sample weeks (made without its series)." in page
    assert "Not shown: the document has no hours by charge and temperature." in page


@pytest.mark.parametrize("schema", ["v2gbench.fit/1.0", "v2gbench.age/2.0", None])
def test_another_schema_is_refused_in_one_sentence(schema: str | None) -> None:
    document = age_document() | {"schema": schema}
    with pytest.raises(
        RenderError, match=r"^cannot report a document of schema .+; this report is for v2gbench.age/1$"
    ):
        render_age_report(document)


def test_a_later_minor_version_is_read(undrawn: None) -> None:
    assert "V2G wears off" in render_age_report(age_document() | {"schema": "v2gbench.age/1.7"})


def test_a_document_without_a_law_is_refused() -> None:
    with pytest.raises(RenderError, match="names none under 'laws'"):
        render_age_report(age_document() | {"laws": []})


@pytest.mark.parametrize("damaged", [None, "?"], ids=["null", "text"])
@pytest.mark.parametrize("key", ["scenario", "law_notes", "with_v2g", "attribution", "warranty", "v2g", "second_life"])
def test_a_damaged_part_leaves_a_report_of_the_others(undrawn: None, key: str, damaged: Json) -> None:
    document = age_document() | {key: damaged}
    assert "How far each law can be believed" in visible(render_age_report(document))


def test_a_name_that_is_a_piece_of_html_stays_a_name(undrawn: None) -> None:
    document = age_document()
    document["scenario"]["title"] = "<script>alert(1)</script>"
    html = render_age_report(document)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_the_report_is_written_beside_its_document(tmp_path: Path) -> None:
    path = write_age_report(age_document(), tmp_path)
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_is_not_there_is_refused(undrawn: None, tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="cannot write"):
        write_age_report(age_document(), tmp_path / "nowhere")
