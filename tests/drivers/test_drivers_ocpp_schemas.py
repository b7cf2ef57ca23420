"""The compiled checks agree with a general JSON schema validator, and give the standard's error codes."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from decimal import Decimal
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft4Validator  # type: ignore[import-untyped]  # its stubs are a package of their own

from drivers.errors import ConfigError
from drivers.ocpp.schemas import SchemaViolation, actions, request_check, response_check

RUBBISH: list[Any] = [None, True, 0, -1, 1.5, 21.4, 4.11, "", "x" * 600, [], [{}], {}, {"unknown": 1}]


def schema_of(name: str) -> dict[str, Any]:
    text = files("ocpp").joinpath("v16", "schemas", f"{name}.json").read_text(encoding="utf-8-sig")
    loaded: dict[str, Any] = json.loads(text, parse_float=Decimal)
    return loaded


def example(schema: dict[str, Any], root: dict[str, Any], rng: random.Random, *, whole: bool) -> Any:
    if "$ref" in schema:
        return example(root["definitions"][schema["$ref"].rpartition("/")[2]], root, rng, whole=whole)
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = schema.get("type", "object")
    if kind == "object":
        wanted = schema.get("properties", {}) if whole else schema.get("required", [])
        return {name: example(schema["properties"][name], root, rng, whole=whole) for name in wanted}
    if kind == "array":
        return [example(schema["items"], root, rng, whole=whole) for _ in range(rng.randint(1, 2))]
    if schema.get("format") == "date-time":
        return "2026-01-15T08:00:00Z"
    return {"string": "x", "integer": 7, "number": 21.4, "boolean": True}[kind]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def mutated(value: Any, path: tuple[Any, ...], rng: random.Random) -> Any:
    changed = copy.deepcopy(value)
    if not path:
        return rng.choice(RUBBISH)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    if isinstance(holder, dict) and rng.random() < 0.3:
        del holder[path[-1]]
    else:
        holder[path[-1]] = rng.choice(RUBBISH)
    return changed


def verdict(check: Any, payload: Any) -> str:
    try:
        check(payload)
    except SchemaViolation as violation:
        return str(violation)
    return ""


@pytest.mark.parametrize("name", sorted({*actions(), *(f"{action}Response" for action in actions())}))
def test_every_schema_judges_mutated_payloads_as_a_general_validator_does(name: str) -> None:
    schema, rng = schema_of(name), random.Random(name)
    action = name.removesuffix("Response")
    check = response_check(action) if name != action else request_check(action)
    general = Draft4Validator(schema)
    for whole in (False, True):
        valid = example(schema, schema, rng, whole=whole)
        assert verdict(check, valid) == ""
        for path in places(valid):
            for _ in range(4):
                payload = mutated(valid, path, rng)
                ours = verdict(check, payload)
                if "RFC 3339" in ours:  # the general validator does not look at formats
                    continue
                decimals = json.loads(json.dumps(payload), parse_float=Decimal)
                assert (ours == "") == general.is_valid(decimals), (payload, ours)


PROFILE = {
    "connectorId": 1,
    "csChargingProfiles": {
        "chargingProfileId": 1,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": {"chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 21.4}]},
    },
}


@pytest.mark.parametrize(
    ("action", "payload", "code"),
    [
        ("Heartbeat", {"extra": 1}, "FormationViolation"),
        ("Authorize", {}, "ProtocolError"),
        ("Authorize", {"idTag": 7}, "TypeConstraintViolation"),
        ("Authorize", {"idTag": "123456789012345678901"}, "PropertyConstraintViolation"),
        ("Reset", {"type": "Gentle"}, "PropertyConstraintViolation"),
        ("MeterValues", {"connectorId": 1, "meterValue": []}, "OccurenceConstraintViolation"),
        ("MeterValues", {"connectorId": True, "meterValue": []}, "TypeConstraintViolation"),
        (
            "StatusNotification",
            {"connectorId": 1, "errorCode": "NoError", "status": "Available", "timestamp": "yesterday"},
            "PropertyConstraintViolation",
        ),
    ],
)
def test_a_violation_carries_the_code_of_the_standard(action: str, payload: object, code: str) -> None:
    with pytest.raises(SchemaViolation) as caught:
        request_check(action)(payload)
    assert caught.value.code == code


def test_a_limit_of_21_4_is_a_multiple_of_a_tenth_and_4_11_is_not() -> None:
    request_check("SetChargingProfile")(PROFILE)
    wrong = copy.deepcopy(PROFILE)
    period = wrong["csChargingProfiles"]["chargingSchedule"]["chargingSchedulePeriod"][0]  # type: ignore[index]
    period["limit"] = 4.11
    with pytest.raises(SchemaViolation, match=r"chargingSchedulePeriod\.0\.limit: 4\.11 is not a multiple of 0\.1"):
        request_check("SetChargingProfile")(wrong)


def test_an_unknown_action_has_no_schema() -> None:
    with pytest.raises(ConfigError, match="no action 'MakeCoffee'"):
        request_check("MakeCoffee")
