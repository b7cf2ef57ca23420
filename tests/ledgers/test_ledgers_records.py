"""The usage record: one byte form, no null without a reason, no verdict that the figures do not give."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ledgers.canonical import to_canonical
from ledgers.errors import RecordError
from ledgers.records import (
    Agreement,
    Direction,
    Energy,
    EnergyFigure,
    Material,
    Outcome,
    Plane,
    TracePair,
    energy_pairs,
    reconcile,
    record_problems,
    sign_record,
    sign_statement,
    trace_pair,
    usage_record_from_bytes,
    utc_text,
)

MakeEnergy = Callable[..., Energy]
Bench = Any  # the class of conftest.py, which pytest's importlib mode gives test files no way to import


def figure(
    witness: str, plane: Plane, value_wh: float | None, u_wh: float | None, reason: str | None = None
) -> EnergyFigure:
    return EnergyFigure(
        witness=witness,
        plane=plane,
        value_wh=value_wh,
        expanded_uncertainty_wh=u_wh,
        coverage_factor=2,
        contributions={},
        reason=reason,
    )


def imported(*figures: EnergyFigure) -> Energy:
    return Energy(imported=figures, exported=())


def test_a_record_reads_back_to_the_same_bytes(bench: Bench) -> None:
    data = bench.signed().to_bytes()
    again = usage_record_from_bytes(data)
    assert again.to_bytes() == data
    assert again.holds()
    assert all(statement.holds() for statement in again.record.witnesses)


def test_two_benches_with_one_seed_write_the_same_bytes(bench: Bench, bench_of_seed: Callable[[int], Bench]) -> None:
    assert bench_of_seed(7).signed().to_bytes() == bench.signed().to_bytes()
    assert bench_of_seed(8).signed().to_bytes() != bench.signed().to_bytes()


def test_directions_are_spelled_import_and_export(bench: Bench) -> None:
    document = json.loads(bench.signed().to_bytes())
    assert set(document["record"]["energy"]) == {"import", "export"}
    assert document["record"]["schema"] == "v2gbench.usage-record/1.0"


@pytest.mark.parametrize(
    ("value_wh", "stated"), [(5012.40049, 5012.4), (5012.4005001, 5012.401), (-0.0001, 0.0), (1e-9, 0.0)]
)
def test_energies_are_rounded_to_a_thousandth_of_a_watt_hour(value_wh: float, stated: float) -> None:
    found = figure("van", Plane.DC, value_wh, 0.5).value_wh
    assert (found, str(found)) == (stated, str(stated))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused_rather_than_written(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        figure("van", Plane.DC, value, 0.5)


def test_a_missing_value_needs_a_reason_and_a_value_needs_none() -> None:
    assert figure("van", Plane.DC, None, None, "the van was silent").value_wh is None
    for wrong in ((None, None, None), (1.0, 0.1, "because"), (None, 0.1, "half of it")):
        with pytest.raises(ValidationError, match="reason"):
            figure("van", Plane.DC, *wrong)


@pytest.mark.parametrize("text", ["2026-02-30T10:00:00.000Z", "2026-03-01T10:00:00Z", "2026-03-01T10:00:00.000+00:00"])
def test_a_time_has_one_spelling(bench: Bench, text: str) -> None:
    session = bench.record().session.model_dump()
    with pytest.raises(ValidationError):
        type(bench.record().session)(**{**session, "begin": text})


def test_utc_text_rounds_to_the_millisecond_and_refuses_what_is_no_time() -> None:
    assert utc_text(1_772_359_200.0006) == "2026-03-01T10:00:00.001Z"
    assert utc_text(1_772_359_199.9996) == "2026-03-01T10:00:00.000Z"
    for wrong in (float("nan"), 1e300):
        with pytest.raises(RecordError):
            utc_text(wrong)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("v2gbench.usage-record/2.0", "schema version 2.0; this program reads version 1.x"),
        ("v2gbench.usage-record/1.1", "v2gbench.usage-record/1.0"),
        ("v2gbench.certificate/1.0", "is a v2gbench.certificate"),
        ("1.0", "does not say which schema"),
        (None, "does not say which schema"),
    ],
)
def test_an_unknown_version_is_refused_in_one_sentence(bench: Bench, schema: str | None, message: str) -> None:
    document = json.loads(bench.signed().to_bytes())
    document["record"]["schema"] = schema
    with pytest.raises(RecordError, match=message) as caught:
        usage_record_from_bytes(to_canonical(document))
    assert "\n" not in str(caught.value)


def test_an_unknown_member_is_refused_with_its_place(bench: Bench) -> None:
    document = json.loads(bench.signed().to_bytes())
    document["record"]["session"]["mood"] = "good"
    with pytest.raises(RecordError, match=r"record\.session\.mood: this member is unknown"):
        usage_record_from_bytes(to_canonical(document))


def test_a_number_with_more_decimals_than_the_schema_has_is_refused(bench: Bench) -> None:
    document = json.loads(bench.signed().to_bytes())
    document["record"]["battery_use"]["throughput_ah"] = 21.70000001
    with pytest.raises(RecordError, match="more decimals"):
        usage_record_from_bytes(to_canonical(document))


def test_a_text_for_a_number_is_refused(bench: Bench) -> None:
    document = json.loads(bench.signed().to_bytes())
    document["record"]["samples"]["count"] = "3600"
    with pytest.raises(RecordError, match=r"record\.samples\.count"):
        usage_record_from_bytes(to_canonical(document))


def test_nobody_signs_for_somebody_else(bench: Bench) -> None:
    with pytest.raises(RecordError, match="own key"):
        sign_statement(bench.record().witnesses[0].statement, bench.station)
    with pytest.raises(RecordError, match="'charger' cannot sign"):
        sign_record(bench.record(), bench.meter)


def test_a_figure_that_its_witness_did_not_sign_cannot_enter_a_record(bench: Bench, make_energy: MakeEnergy) -> None:
    record = bench.record()
    first = record.energy.imported[0].model_copy(update={"value_wh": 5000.0})
    changed = record.energy.model_copy(update={"imported": (first, *record.energy.imported[1:])})
    document = {name: getattr(record, name) for name in type(record).model_fields}
    with pytest.raises(ValidationError, match="not those that this witness signed"):
        type(record)(**{**document, "energy": changed, "reconciliation": reconcile(changed)})


def test_a_declared_verdict_is_recomputed_not_believed(bench: Bench, make_energy: MakeEnergy) -> None:
    planted = make_energy(
        (
            ("charger", Plane.AC, 5162.8, 3079.9, 0.01),  # 3 % too much
            ("analyzer", Plane.AC, 5020.1, 2984.6, 0.002),
        )
    )
    record = bench.record(planted)
    assert record.reconciliation.verdict is Agreement.DISAGREE
    pairs = tuple(pair.model_copy(update={"verdict": Agreement.AGREE}) for pair in record.reconciliation.pairs)
    lie = record.reconciliation.model_copy(
        update={"pairs": pairs, "verdict": Agreement.AGREE, "odd_witness": None, "odd_reason": None}
    )
    problems = record_problems(record.model_copy(update={"reconciliation": lie}))
    assert any("the figures give disagree" in problem for problem in problems)


def test_an_omitted_pair_is_noticed(bench: Bench) -> None:
    record = bench.record()
    shorter = record.reconciliation.model_copy(update={"pairs": record.reconciliation.pairs[1:]})
    assert record_problems(record.model_copy(update={"reconciliation": shorter}))[0].startswith("the reconciliation")


def test_a_station_with_a_twin_cannot_claim_to_be_measured(bench: Bench) -> None:
    record = bench.record()
    station = record.station.model_copy(update={"material": Material.MEASURED})
    assert record_problems(record.model_copy(update={"station": station})) == [
        "the station is said to be measured, but some of its devices or witnesses are not"
    ]


def test_two_figures_agree_up_to_the_root_sum_of_squares_of_their_uncertainties() -> None:
    # sqrt(30² + 40²) = 50 Wh: E_n = 1 at exactly 50 Wh of difference (ISO/IEC 17043 annex B)
    for difference_wh, verdict in ((50.0, Agreement.AGREE), (50.001, Agreement.DISAGREE), (-50.0, Agreement.AGREE)):
        pair = energy_pairs(
            imported(figure("a", Plane.AC, 5000 + difference_wh, 30.0), figure("b", Plane.AC, 5000.0, 40.0))
        )[0]
        assert (pair.allowed_wh, pair.difference_wh, pair.verdict) == (50.0, difference_wh, verdict)


def test_planes_are_never_compared_across() -> None:
    assert energy_pairs(imported(figure("a", Plane.AC, 5000, 1), figure("b", Plane.DC, 4800, 1))) == ()


def test_a_silent_witness_is_not_judged_and_says_why() -> None:
    pair = energy_pairs(
        imported(figure("a", Plane.AC, 5000.0, 30.0), figure("b", Plane.AC, None, None, "no answer for 40 s"))
    )[0]
    assert (pair.verdict, pair.difference_wh, pair.reason) == (Agreement.NOT_JUDGED, None, "b: no answer for 40 s")


def lag(a: str, plane: Plane, value: float | None) -> TracePair:
    reason = None if value is not None else "power never changed"
    return trace_pair("time_lag", plane, a, "analyzer", value=value, unit="s", allowed=5.0, reason=reason)


@pytest.mark.parametrize(
    ("charger", "analyzer_ac", "van", "analyzer_dc", "odd"),
    [
        (5150.0, 5000.0, 4790.0, 4800.0, "charger"),
        (5000.0, 5000.0, 4600.0, 4800.0, "van"),
        (5000.0, 5150.0, 4790.0, 4944.0, "analyzer"),
        (-5000.0, 5000.0, 4790.0, 4800.0, "charger"),
        (5000.0, 5010.0, 4790.0, 4800.0, None),
    ],
)
def test_the_witness_that_disagrees_is_named(
    charger: float, analyzer_ac: float, van: float, analyzer_dc: float, odd: str | None
) -> None:
    found = reconcile(
        imported(
            figure("charger", Plane.AC, charger, 50.0),
            figure("analyzer", Plane.AC, analyzer_ac, 10.0),
            figure("van", Plane.DC, van, 96.0),
            figure("analyzer", Plane.DC, analyzer_dc, 10.0),
        )
    )
    assert found.odd_witness == odd
    assert found.verdict is (Agreement.AGREE if odd is None else Agreement.DISAGREE)


def test_a_clock_that_is_a_minute_off_is_named_although_all_energies_agree() -> None:
    energy = imported(
        figure("charger", Plane.AC, 5000.0, 50.0),
        figure("analyzer", Plane.AC, 5000.0, 10.0),
        figure("van", Plane.DC, 4800.0, 96.0),
        figure("analyzer", Plane.DC, 4800.0, 10.0),
    )
    found = reconcile(energy, [lag("charger", Plane.AC, 0.5), lag("van", Plane.DC, -60.0)])
    assert (found.verdict, found.odd_witness) == (Agreement.DISAGREE, "van")


def test_two_witnesses_alone_cannot_single_one_out() -> None:
    found = reconcile(imported(figure("a", Plane.AC, 5000.0, 1.0), figure("b", Plane.AC, 5100.0, 1.0)))
    assert found.odd_witness is None
    assert found.odd_reason == "the comparisons that disagree do not single out one witness"


def test_a_session_of_a_single_witness_is_not_judged() -> None:
    assert reconcile(imported(figure("van", Plane.DC, 5000.0, 1.0))).verdict is Agreement.NOT_JUDGED
    assert reconcile(imported(), [lag("van", Plane.DC, None)]).verdict is Agreement.NOT_JUDGED


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Direction)),
            st.sampled_from(["charger", "van", "analyzer"]),
            st.sampled_from(list(Plane)),
            st.floats(-1e7, 1e7),
            st.floats(0, 1e5),
        ),
        max_size=8,
        unique_by=lambda row: row[:3],
    )
)
def test_verdicts_are_the_same_after_a_journey_through_json(
    rows: list[tuple[Direction, str, Plane, float, float]],
) -> None:
    energy = Energy(
        imported=tuple(figure(w, p, v, u) for d, w, p, v, u in rows if d is Direction.IMPORT),
        exported=tuple(figure(w, p, v, u) for d, w, p, v, u in rows if d is Direction.EXPORT),
    )
    again = Energy.model_validate_json(to_canonical(energy.model_dump(mode="json", by_alias=True)))
    assert again == energy
    assert reconcile(again) == reconcile(energy)


def test_a_reconciliation_cannot_name_anybody_without_cause(bench: Bench) -> None:
    record = bench.record()

    def problems_of(**changes: object) -> list[str]:
        changed = record.reconciliation.model_copy(update=changes)
        return record_problems(record.model_copy(update={"reconciliation": changed}))

    assert problems_of(odd_witness="van", odd_reason="a feeling") == ["an odd witness is named although none disagree"]
    assert "the overall verdict is stated as disagree, its pairs give agree" in problems_of(
        verdict=Agreement.DISAGREE, odd_witness="van", odd_reason="a feeling"
    )
    far = record.reconciliation.traces[0].model_copy(update={"value": 60.0})
    assert problems_of(traces=(far,))[0] == "time_lag of 'charger' and 'analyzer' is stated as agree"
    told = far.model_copy(update={"verdict": Agreement.DISAGREE})
    disagreeing = {"traces": (told,), "verdict": Agreement.DISAGREE}
    assert problems_of(**disagreeing) == [
        "witnesses disagree, and the record gives no reason for naming or not naming one"
    ]
    assert problems_of(**disagreeing, odd_witness="van", odd_reason="a feeling") == [
        "'van' is named as the odd witness but disagrees with nobody"
    ]
    assert problems_of(**disagreeing, odd_witness="charger", odd_reason="its clock") == []


def test_a_witness_speaks_once(bench: Bench) -> None:
    record = bench.record()
    twice = (*record.witnesses, record.witnesses[0])
    assert record_problems(record.model_copy(update={"witnesses": twice})) == ["a witness has two statements"]
    silent = record.witnesses[1:]
    assert record_problems(record.model_copy(update={"witnesses": silent})) == [
        "the figures of 'charger' are signed by no witness"
    ]
    with pytest.raises(ValidationError, match="two figures"):
        imported(figure("a", Plane.AC, 1.0, 1.0), figure("a", Plane.AC, 2.0, 1.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"end": "2026-03-01T09:59:59.999Z"}, "before it begins"),
        ({"outcome": Outcome.ABORTED}, "needs an outcome_reason"),
        ({"outcome_reason": "none at all"}, "a completed one has none"),
    ],
)
def test_a_session_cannot_contradict_itself(bench: Bench, changes: dict[str, object], message: str) -> None:
    session = bench.record().session
    fields = {name: getattr(session, name) for name in type(session).model_fields}
    with pytest.raises(ValidationError, match=message):
        type(session)(**{**fields, **changes})


def test_a_figure_that_is_not_there_is_asked_for_in_vain(bench: Bench) -> None:
    energy: Energy = bench.record().energy
    assert energy.figure("van", Plane.DC, Direction.EXPORT).value_wh == 3168.0
    with pytest.raises(RecordError, match="no export energy of 'van' at the ac plane"):
        energy.figure("van", Plane.AC, Direction.EXPORT)


def test_nobody_is_named_when_the_analyzer_could_carry_the_same_error_unseen() -> None:
    """+3 % at AC, and a DC pair too blunt to refuse that the analyzer is 3 % low on both planes."""

    def figure(witness: str, plane: Plane, value_wh: float, u_wh: float) -> EnergyFigure:
        return EnergyFigure(
            witness=witness,
            plane=plane,
            value_wh=value_wh,
            expanded_uncertainty_wh=u_wh,
            coverage_factor=2,
            contributions={},
            reason=None,
        )

    def energy(u_vehicle_wh: float) -> Energy:
        figures = (
            figure("charger", Plane.AC, 1030.0, 10.0),
            figure("meter", Plane.AC, 1000.0, 1.0),
            figure("meter", Plane.DC, 950.0, 1.0),
            figure("van", Plane.DC, 950.0, u_vehicle_wh),
        )
        return Energy(imported=figures, exported=())

    blunt = reconcile(energy(u_vehicle_wh=30.0))
    assert blunt.verdict is Agreement.DISAGREE
    assert blunt.odd_witness is None
    assert blunt.odd_reason is not None
    assert "charger or meter" in blunt.odd_reason

    sharp = reconcile(energy(u_vehicle_wh=9.0))  # 3 % of 950 Wh would be 28.5 Wh, and 9 Wh refuse it
    assert sharp.odd_witness == "charger"
