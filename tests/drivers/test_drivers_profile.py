"""A register map as data: read once, and refused whole with what is wrong in one sentence."""

from __future__ import annotations

from importlib import resources

import pytest

from drivers.charger.profile import ChargerProfile, load_profile, parse_profile
from drivers.errors import ConfigError

SMALL = """\
schema: v2gbench.charger-profile/1.0
name: small
unit_id: 1
base: 40000
idle_w: 150
sign: injection
cycle_reads:
  - {model: 701, count: 12}
readings:
  ac_power: {model: 701, point: W, unit: W, turn: true}
models:
  - id: 1
    length: 66
    points:
      - [2, Mn, string16, null, r]
  - id: 701
    length: 14
    points:
      - [10, W, int16, W_SF, r]
      - [11, Energy, uint64, null, r]
      - [15, W_SF, sunssf, null, r]
"""


@pytest.fixture(scope="module")
def shipped() -> ChargerProfile:
    return load_profile("sunspec_der")


def test_the_shipped_profile_has_the_lengths_of_the_sunspec_models(shipped: ChargerProfile) -> None:
    # github.com/sunspec/models: lengths without ID and L; 704 with its four power-factor groups.
    assert {model.id: model.length for model in shipped.models} == {
        1: 66, 701: 153, 702: 50, 704: 65, 713: 7, 715: 7,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "name", "offset"),
    [
        (1, "SN", 50), (701, "InvSt", 4), (701, "W", 10), (701, "TotWhInj", 19), (701, "TotWhAbs", 23),
        (701, "ThrotSrc", 111), (701, "W_SF", 116), (702, "WChaRteMaxRtg", 10), (702, "WDisChaRteMax", 35),
        (704, "WSetEna", 22), (704, "WSet", 24), (704, "WSetRvrtTms", 31), (704, "WSet_SF", 55), (713, "SoC", 4),
        (715, "ControllerHb", 5), (715, "OpCtl", 8),
    ],
)  # fmt: skip
def test_points_stand_at_the_offsets_of_the_sunspec_models(
    shipped: ChargerProfile, model: int, name: str, offset: int
) -> None:
    assert shipped.point(model, name).address == shipped.model_addresses[model] + offset


def test_models_follow_each_other_without_a_gap(shipped: ChargerProfile) -> None:
    at = shipped.base + 2
    for model in shipped.models:
        assert shipped.model_addresses[model.id] == at
        at += model.length + 2
    assert shipped.end_address == at


def test_a_cycle_reads_every_reading_within_its_blocks(shipped: ChargerProfile) -> None:
    blocks = [(shipped.model_addresses[block.model], block.count) for block in shipped.cycle_reads]
    assert all(count <= 125 for _, count in blocks)
    for source in shipped.readings.values():
        point = shipped.point(source.model, source.point)
        assert any(start <= point.address <= point.address + point.size <= start + count for start, count in blocks)


def test_an_unknown_profile_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no charger profile 'quasar9'; known are: .*sunspec_der"):
        load_profile("quasar9")


@pytest.mark.parametrize("name", ["../profile", "profiles/sunspec_der", "/etc/passwd", ""])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(ConfigError, match="there is no charger profile"):
        load_profile(name)


def test_a_point_that_is_not_there_is_refused_by_name(shipped: ChargerProfile) -> None:
    with pytest.raises(ConfigError, match="profile 'sunspec_der' has no point 'Wh' in model 701"):
        shipped.point(701, "Wh")


def wrong(old: str, new: str) -> str:
    assert SMALL.count(old) == 1
    return SMALL.replace(old, new)


def test_the_small_profile_is_right_until_a_test_changes_it() -> None:
    small = parse_profile(SMALL, "small")
    assert small.model_addresses == {1: 40002, 701: 40070}
    assert (small.point(701, "Energy").address, small.point(701, "Energy").size) == (40081, 4)
    assert small.end_address == 40086


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (wrong("[15, W_SF", "[14, W_SF"), "point W_SF of model 701 needs registers 14 to 14, free are 15 to 15"),
        (wrong("[15, W_SF", "[16, W_SF"), "point W_SF of model 701 needs registers 16 to 16, free are 15 to 15"),
        (wrong("[10, W,", "[1, W,"), "point W of model 701 needs registers 1 to 1, free are 2 to 15"),
        (wrong("Energy, uint64", "W, uint64"), "model 701 has two points of one name"),
        (wrong("Energy, uint64", "Energy, float32"), "point Energy of model 701 has unknown type 'float32'"),
        (wrong("Mn, string16", "Mn, string"), "point Mn of model 1 has unknown type 'string'"),
        (wrong("Mn, string16", "Mn, string0"), "point Mn of model 1 has unknown type 'string0'"),
        (wrong("Mn, string16", "Mn, string67"), "point Mn of model 1 needs registers 2 to 68, free are 2 to 67"),
        (wrong("[10, W, int16, W_SF, r]", "[10, W, int16, V_SF, r]"), "scaled by 'V_SF', which is no sunssf of it"),
        (wrong("[10, W, int16, W_SF, r]", "[10, W, int16, Energy, r]"), "scaled by 'Energy', which is no sunssf"),
        (wrong("schema: v2gbench.charger-profile/1.0", "schema: v2gbench.charger-profile/2.0"), "schema"),
        (wrong("unit_id: 1", "unit_id: 300"), "unit_id"),
        (wrong("sign: injection", "sign: positive"), "sign"),
        (wrong("idle_w: 150", "idle_w: -1"), "idle_w"),
        (wrong("count: 12}", "count: 126}"), "cycle_reads.0.count"),
        (wrong("base: 40000", "base: 70000"), "base"),
        (wrong("name: small", "nam: small"), r"name: Field required \(1 more\)"),
    ],
)
def test_a_wrong_profile_is_refused_in_one_sentence_that_says_where(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_profile(text, "small")
    message = str(caught.value)
    assert message.startswith("charger profile 'small'")
    assert "\n" not in message


def test_names_that_point_nowhere_are_refused() -> None:
    text = resources.files("drivers.charger").joinpath("profiles/sunspec_der.yaml").read_text(encoding="utf-8")
    for old, new, words in (
        ("cycle_reads:\n  - {model: 715", "cycle_reads:\n  - {model: 714", "cycle_reads names model 714"),
        ("ac_power:            {model: 701, point: W,", "ac_power:            {model: 701, point: Watt,", "Watt"),
        ("  - id: 713", "  - id: 715", "two models have one id"),
    ):
        assert text.count(old) == 1, old
        with pytest.raises(ConfigError, match=words):
            parse_profile(text.replace(old, new), "sunspec_der")
    with pytest.raises(ConfigError, match="beyond 65535"):
        parse_profile(text.replace("    length: 153", "    length: 40000"), "sunspec_der")


@pytest.mark.parametrize(("text", "words"), [("a: [1,\nb: }", "line 2"), ("\t- x", "line 1"), ("", "Input should be")])
def test_a_file_that_is_no_yaml_or_empty_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_profile(text, "small")
    assert "\n" not in str(caught.value)
