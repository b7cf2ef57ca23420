"""The tables of `docs/first-session.md`, made from a finished demo, so that the page shows what the bench really does.

    python -m docs.first_session            run the demo, write the tables into the page
    python -m docs.first_session --check    run the demo, exit code 1 when the page shows something else

A table stands between `<!-- demo: NAME -->` and `<!-- end -->`. Figures that differ from run to run (paths, wall time)
are in none of them.
"""

from __future__ import annotations

import argparse
import json
import re
import sqlite3
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.assets import asset
from bench.pipeline import run_certified
from bench.session import demo_plan
from bench.station import load_station

PAGE = Path(__file__).with_name("first-session.md")
_BLOCK = re.compile(r"(?s)(<!-- demo: ([a-z-]+) -->\n)(?:(?!<!--).)*(<!-- end -->)")


def run_demo(runs: Path) -> Path:
    """Run the session that `v2gbench demo` runs, without its report, and return the run folder."""
    return run_certified(load_station(asset("stations/emulated.yaml")), demo_plan(), runs=runs, report=False).folder


def tables(folder: Path) -> dict[str, str]:
    """All tables of the page, by name, from a run folder."""
    record = json.loads((folder / "records" / "usage_record.json").read_bytes())["record"]
    settlement = json.loads((folder / "records" / "settlement.json").read_bytes())
    return {
        "counts": _counts(folder),
        "set-points": _set_points(folder),
        "orders": _orders(record),
        "energies": _energies(record),
        "budget": _budget(record),
        "pairs": _pairs(record),
        "lags": _lags(record),
        "use": _use(record),
        "limits": _limits(record),
        "ledger": _ledger(folder),
        "settlement": _settlement(settlement),
    }


def filled(page: str, found: Mapping[str, str]) -> str:
    """The page with its tables replaced; KeyError for a name that there is not."""
    return _BLOCK.sub(lambda match: match[1] + found[match[2]] + "\n" + match[3], page)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(prog="python -m docs.first_session", description="Tables of first-session.md.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 when the page is stale")
    check = parser.parse_args(arguments).check
    with tempfile.TemporaryDirectory() as runs:
        found = tables(run_demo(Path(runs)))
    shown = PAGE.read_text(encoding="utf-8")
    wanted = filled(shown, found)
    if shown == wanted:
        return 0
    if check:
        print(
            f"{PAGE.name} does not show what the demo gives; run 'python -m docs.first_session' and read what changed"
        )
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    print(f"wrote {PAGE.name}")
    return 0


# Tables


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _counts(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "run.sqlite")) as database:
        rows = [
            (what, database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608  # fixed names
            for what, table in (
                ("cycles of 1 s", "cycles"),
                ("readings that were new", "readings"),
                ("quantities", "sources"),
                ("set-points", "set_points"),
                ("events", "events"),
            )
        ]
    return _table(("In `run.sqlite`", "How many"), rows)


def _set_points(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "run.sqlite")) as database:
        rows = database.execute(
            "SELECT mono_s, requested_w, accepted_w, clamped_by FROM set_points ORDER BY mono_s"
        ).fetchall()
    return _table(
        ("Session time, s", "Asked, W", "In force, W", "Clamped by"),
        [(f"{at:g}", f"{asked:g}", f"{accepted:g}", by) for at, asked, accepted, by in rows],
    )


def _orders(record: Mapping[str, Any]) -> str:
    return _table(
        ("Order", "Kind", "From", "To", "Asked, W", "Delivered, W", "Told by"),
        [
            (
                order["order_id"],
                order["kind"],
                _clock(order["begin"]),
                _clock(order["end"]),
                f"{order['requested_power_w']:g}",
                f"{order['delivered_power_w']:.1f}",
                order["measured_by"],
            )
            for order in record["session"]["orders"]
        ],
    )


def _energies(record: Mapping[str, Any]) -> str:
    exported = {(figure["witness"], figure["plane"]): figure for figure in record["energy"]["export"]}
    return _table(
        ("Witness", "Plane", "Import, Wh", "± U", "Export, Wh", "± U"),
        [
            (
                figure["witness"],
                figure["plane"],
                f"{figure['value_wh']:.1f}",
                f"{figure['expanded_uncertainty_wh']:.1f}",
                f"{exported[figure['witness'], figure['plane']]['value_wh']:.1f}",
                f"{exported[figure['witness'], figure['plane']]['expanded_uncertainty_wh']:.1f}",
            )
            for figure in record["energy"]["import"]
        ],
    )


def _budget(record: Mapping[str, Any]) -> str:
    parts = ("gain", "offset", "resolution", "polling", "clock")
    return _table(
        ("Import, Wh", *parts, "U"),
        [
            (
                f"{figure['witness']} ({figure['plane']})",
                *(f"{figure['contributions'][part]:.2f}" if part in figure["contributions"] else "-" for part in parts),
                f"{figure['expanded_uncertainty_wh']:.2f}",
            )
            for figure in record["energy"]["import"]
        ],
    )


def _pairs(record: Mapping[str, Any]) -> str:
    return _table(
        ("Direction", "Plane", "Pair", "Difference, Wh", "Allowed, Wh", "E_n", "Verdict"),
        [
            (
                pair["direction"],
                pair["plane"],
                f"{pair['a']} minus {pair['b']}",
                f"{pair['difference_wh']:.1f}",
                f"{pair['allowed_wh']:.1f}",
                f"{abs(pair['difference_wh']) / pair['allowed_wh']:.2f}",
                pair["verdict"],
            )
            for pair in record["reconciliation"]["pairs"]
        ],
    )


def _lags(record: Mapping[str, Any]) -> str:
    return _table(
        ("Plane", "Pair", "Lag, s", "Allowed, s", "Verdict"),
        [
            (
                trace["plane"],
                f"{trace['a']}, {trace['b']}",
                f"{trace['value']:g}",
                f"{trace['allowed']:g}",
                trace["verdict"],
            )
            for trace in record["reconciliation"]["traces"]
        ],
    )


def _use(record: Mapping[str, Any]) -> str:
    use = record["battery_use"]
    return _table(
        ("Battery use", f"as {use['witness']} tells it"),
        [
            ("state of charge", f"{use['soc_begin_percent']:.1f} % to {use['soc_end_percent']:.1f} %"),
            ("throughput, charged plus discharged", f"{use['throughput_ah']:.2f} Ah"),
            ("equivalent full cycles", f"{use['equivalent_full_cycles']:.4f}"),
            ("pack temperature", f"{use['pack_temperature_min_c']:g} °C to {use['pack_temperature_max_c']:g} °C"),
            ("state of health", f"{use['soh_percent']:g} %"),
        ],
    )


def _limits(record: Mapping[str, Any]) -> str:
    return _table(
        ("Limit", "Unit", "Worst value", "Margin", "Verdict"),
        [
            (
                f"`{limit['limit']}`",
                limit["unit"],
                f"{limit['worst_value']:.1f}",
                f"{limit['margin']:.1f}",
                limit["verdict"],
            )
            for limit in record["limits"]
        ],
    )


def _ledger(folder: Path) -> str:
    names = ("monitoring", "remuneration", "alarms")
    sizes = [(folder / "ledger" / f"{name}.checkpoint").read_text(encoding="utf-8").splitlines()[1] for name in names]
    return _table(("Channel", "Entries"), list(zip(names, sizes, strict=True)))


def _settlement(receipt: Mapping[str, Any]) -> str:
    quote = receipt["quote"]
    return _table(
        ("Line", "From", "To", "Quantity", "Price", f"Amount, {quote['currency']}"),
        [
            (
                line["kind"],
                line["payer"],
                line["payee"],
                f"{line['quantity']} {line['quantity_unit']}",
                f"{line['price']} {line['price_unit']}",
                f"{line['amount_micro'] / 1e6:.6f}",
            )
            for line in quote["lines"]
        ],
    )


def _clock(utc: str) -> str:
    return utc[11:19]


if __name__ == "__main__":
    sys.exit(main())
