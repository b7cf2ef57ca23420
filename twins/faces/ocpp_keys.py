"""Configuration keys of the charge point: those of OCPP 1.6 section 9 that it honours, and two of its own.

`ProfileIsSetpoint` (vendor key): `true` lets the charging profile command the power, as a charge point without another
controller does; `false` leaves the command to the set-point of another face (Modbus), with the profile as its bound.
`PowerWithoutProfile` (vendor key, W): what a commanding profile means while none is installed. 0 by default: a
bidirectional charger has no vehicle-driven demand of its own, so it waits to be told.

A key whose function the charge point does not have is absent, never accepted and ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

PROFILE_IS_SETPOINT: Final = "ProfileIsSetpoint"
POWER_WITHOUT_PROFILE: Final = "PowerWithoutProfile"
MEASURANDS: Final = (
    "Power.Active.Import",
    "Power.Active.Export",
    "Energy.Active.Import.Register",
    "Energy.Active.Export.Register",
    "Voltage",
    "Current.Import",
    "Current.Export",
    "SoC",
    "Temperature",
    "Frequency",
)


@dataclass(slots=True)
class _Key:
    value: str
    accepts: Callable[[str], bool] | None  # None: read-only


class Configuration:
    """The keys of one charge point with their present values.

    >>> keys = Configuration(max_profiles=20, max_stack_level=10, max_periods=48, profile_commands=False)
    >>> keys.change("MeterValueSampleInterval", "30"), keys.seconds("MeterValueSampleInterval")
    ('Accepted', 30)
    >>> keys.change("MeterValueSampleInterval", "soon"), keys.change("NumberOfConnectors", "2")
    ('Rejected', 'Rejected')
    """

    def __init__(self, *, max_profiles: int, max_stack_level: int, max_periods: int, profile_commands: bool) -> None:
        self._keys = {
            "AuthorizeRemoteTxRequests": _Key("true", _is_boolean),
            "ChargeProfileMaxStackLevel": _Key(str(max_stack_level), None),
            "ChargingScheduleAllowedChargingRateUnit": _Key("Current,Power", None),
            "ChargingScheduleMaxPeriods": _Key(str(max_periods), None),
            "ClockAlignedDataInterval": _Key("0", None),
            "ConnectionTimeOut": _Key("60", _is_count),
            "ConnectorPhaseRotation": _Key("1.RST", None),
            "ConnectorSwitch3to1PhaseSupported": _Key("false", None),
            "GetConfigurationMaxKeys": _Key("50", None),
            "HeartbeatInterval": _Key("300", _is_count),
            "LocalAuthorizeOffline": _Key("false", None),
            "LocalPreAuthorize": _Key("false", None),
            "MaxChargingProfilesInstalled": _Key(str(max_profiles), None),
            "MeterValueSampleInterval": _Key("60", _is_count),
            "MeterValuesAlignedData": _Key("", None),
            "MeterValuesSampledData": _Key(",".join(MEASURANDS), _is_measurand_list),
            "NumberOfConnectors": _Key("1", None),
            "ResetRetries": _Key("0", None),
            "StopTransactionOnEVSideDisconnect": _Key("true", None),
            "StopTransactionOnInvalidId": _Key("true", _is_boolean),
            "StopTxnAlignedData": _Key("", None),
            "StopTxnSampledData": _Key("Energy.Active.Import.Register,Energy.Active.Export.Register", None),
            "SupportedFeatureProfiles": _Key("Core,SmartCharging,RemoteTrigger", None),
            "TransactionMessageAttempts": _Key("3", _is_count),
            "TransactionMessageRetryInterval": _Key("20", _is_count),
            "UnlockConnectorOnEVSideDisconnect": _Key("true", None),
            PROFILE_IS_SETPOINT: _Key("true" if profile_commands else "false", _is_boolean),
            POWER_WITHOUT_PROFILE: _Key("0", _is_power),
        }

    def flag(self, key: str) -> bool:
        """The value of a boolean key."""
        return self._keys[key].value.lower() == "true"

    def seconds(self, key: str) -> int:
        """The value of a key that counts."""
        return int(self._keys[key].value)

    def watts(self, key: str) -> float:
        """The value of a key that is a power."""
        return float(self._keys[key].value)

    def words(self, key: str) -> Sequence[str]:
        """The value of a key that is a list."""
        return tuple(word.strip() for word in self._keys[key].value.split(",") if word.strip())

    def change(self, key: str, value: str) -> str:
        """Set a key; the answer is the ConfigurationStatus of ChangeConfiguration."""
        entry = self._keys.get(key)
        if entry is None:
            return "NotSupported"
        if entry.accepts is None or not entry.accepts(value):
            return "Rejected"
        entry.value = value
        return "Accepted"

    def entries(self, keys: Sequence[str]) -> tuple[list[dict[str, str | bool]], list[str]]:
        """Known keys with value and access, and the unknown ones; all known keys when none is named."""
        wanted = list(keys) or sorted(self._keys)
        known: list[dict[str, str | bool]] = [
            {"key": name, "readonly": self._keys[name].accepts is None, "value": self._keys[name].value}
            for name in wanted
            if name in self._keys
        ]
        return known, [name for name in wanted if name not in self._keys]


def _is_boolean(value: str) -> bool:
    return value.lower() in {"true", "false"}


def _is_count(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) <= 9


def _is_power(value: str) -> bool:
    digits = value.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) <= 6


def _is_measurand_list(value: str) -> bool:
    words = [word.strip() for word in value.split(",") if word.strip()]
    return bool(words) and all(word in MEASURANDS for word in words)
