from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from reports.junit import Judgement, Measurement, junit_xml, write_junit


def test_each_limit_order_and_pair_is_a_case_and_a_disagreement_fails(session_folder: Path) -> None:
    root = ET.parse(write_junit(session_folder)).getroot()
    cases = {(case.get("classname"), case.get("name")): case for case in root.iter("testcase")}
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("10", "1", "2")
    assert root.get("timestamp") == "2026-03-01T12:00:00"
    failure = cases["witnesses", "energy import dc: analyzer and van"].find("failure")
    assert failure is not None
    assert failure.get("message") == "difference 118.4 Wh, allowed 25.3 Wh"
    output = cases["limits", "power_w"].find("system-out")
    assert output is not None
    assert output.text == "-10000 <= power_w <= 10000, worst -7812, margin 2188 W"
    assert cases["orders", "order-1"].find("skipped") is not None  # no limit, so never a pass


def test_a_tripped_run_without_a_record_fails_and_says_so(aborted_folder: Path) -> None:
    root = ET.parse(write_junit(aborted_folder)).getroot()
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("2", "1", "1")
    failure = root.find("testcase/failure")
    assert failure is not None
    assert failure.text == "pack temperature above 45 °C"


def test_characters_that_xml_cannot_hold_are_replaced() -> None:
    case = Measurement("a\x00<b>", 'n"\x1b', Judgement.FAILED, "\ud800 & ]]>")
    root = ET.fromstring(junit_xml("s", [case], begin_utc_s=0.0, duration_s=1.5))
    found = root.find("testcase")
    assert found is not None
    assert (found.get("classname"), found.get("name")) == ("a\ufffd<b>", 'n"\ufffd')
    assert root.get("time") == "1.500"
