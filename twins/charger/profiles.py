"""Charging profiles of OCPP 1.6 section 3.13: what power is in force now, and until when.

Three purposes: ChargePointMaxProfile bounds the charge point, TxDefaultProfile holds for every transaction, TxProfile
for the running one. Within a purpose the profile with the highest stack level that says something about this moment
leads; where a TxProfile says nothing (its `duration` is over) the TxDefaultProfile holds. A TxProfile with a duration
above a TxDefaultProfile of 0 W is therefore a watchdog: whoever renews it in time keeps the power, silence gives 0 W.

OCPP 1.6 has one signed number per period and says nothing of discharge. The bench reads it so (`window`):

- a limit L >= 0 bounds the power in both directions, to [-L, L], because a connection or a fuse does not care for the
  direction; 0 W therefore means no transfer at all, also for a set-point that another controller gives;
- a limit L < 0 permits discharge only, to [L, 0];
- a ChargePointMaxProfile and a transaction's profile both hold: the narrower window wins;
- 0 W is always inside, so a profile never forces energy on a controller that commands by set-point. Where the profile
  itself commands, the limit is the set-point: charge at L, discharge at -|L|, inside the charge point's window.

Amperes are turned into watts with 230 V per phase, three phases unless the period says otherwise.

>>> window(7000.0), window(-3000.0), window(0.0)
((-7000.0, 7000.0), (-3000.0, 0.0), (0.0, 0.0))
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from drivers.ocpp.payload import Payload, integer, member, members, number, text, utc_s

NOMINAL_VOLTAGE_V: Final = 230.0
_RECURRENCE_S: Final = {"Daily": 86_400.0, "Weekly": 604_800.0}
_GREATEST_LIMIT_W: Final = 1e7
_NEVER: Final = math.inf


class Purpose(enum.StrEnum):
    """What a profile bounds."""

    CHARGE_POINT_MAX = "ChargePointMaxProfile"
    TX_DEFAULT = "TxDefaultProfile"
    TX = "TxProfile"


class Kind(enum.StrEnum):
    """What the periods of a schedule count from."""

    ABSOLUTE = "Absolute"  # from startSchedule; without one, from the start of the session
    RECURRING = "Recurring"  # from startSchedule, again each day or week
    RELATIVE = "Relative"  # from the start of the session


class ProfileRejected(Exception):
    """A profile cannot be installed; the reason is one sentence."""


@dataclass(frozen=True, slots=True)
class Period:
    """`limit_w` holds from `start_s` seconds after the anchor of the schedule."""

    start_s: int
    limit_w: float


@dataclass(frozen=True, slots=True)
class Profile:
    """One charging profile; times are UTC seconds since 1970, powers are watts with + for charging."""

    profile_id: int
    stack_level: int
    purpose: Purpose
    kind: Kind
    periods: tuple[Period, ...]
    duration_s: int | None = None
    start_utc_s: float | None = None
    recurrence_s: float | None = None
    valid_from_utc_s: float = -_NEVER
    valid_to_utc_s: float = _NEVER
    transaction_id: int | None = None

    @classmethod
    def from_payload(cls, payload: Payload) -> Profile:
        """Read `csChargingProfiles`; ProfileRejected where the fields contradict each other."""
        schedule = member(payload, "chargingSchedule")
        kind = Kind(text(payload, "chargingProfileKind"))
        recurrence = text(payload, "recurrencyKind", "")
        start = text(schedule, "startSchedule", "")
        if kind is Kind.RECURRING and not (recurrence and start):
            raise ProfileRejected("a Recurring profile needs recurrencyKind and startSchedule")
        duration_s = integer(schedule, "duration") if "duration" in schedule else None
        if duration_s is not None and duration_s <= 0:
            raise ProfileRejected(f"a duration of {duration_s} s is no time")
        return cls(
            profile_id=integer(payload, "chargingProfileId"),
            stack_level=integer(payload, "stackLevel"),
            purpose=Purpose(text(payload, "chargingProfilePurpose")),
            kind=kind,
            periods=_periods(schedule),
            duration_s=duration_s,
            start_utc_s=utc_s(start) if start and kind is not Kind.RELATIVE else None,
            recurrence_s=_RECURRENCE_S[recurrence] if kind is Kind.RECURRING else None,
            valid_from_utc_s=utc_s(text(payload, "validFrom")) if "validFrom" in payload else -_NEVER,
            valid_to_utc_s=utc_s(text(payload, "validTo")) if "validTo" in payload else _NEVER,
            transaction_id=integer(payload, "transactionId") if "transactionId" in payload else None,
        )

    def at(self, now_utc_s: float, session_start_utc_s: float) -> tuple[float | None, float]:
        """The limit at this moment (None: this profile says nothing) and the UTC until which that stays so."""
        if now_utc_s >= self.valid_to_utc_s:
            return None, _NEVER
        if now_utc_s < self.valid_from_utc_s:
            return None, self.valid_from_utc_s
        anchor = session_start_utc_s if self.start_utc_s is None else self.start_utc_s
        if now_utc_s < anchor:
            return None, min(anchor, self.valid_to_utc_s)
        again = _NEVER
        if self.recurrence_s is not None:
            anchor += self.recurrence_s * ((now_utc_s - anchor) // self.recurrence_s)
            again = anchor + self.recurrence_s
        end = again if self.duration_s is None else min(again, anchor + self.duration_s)
        if now_utc_s >= end:
            return None, min(again, self.valid_to_utc_s)
        elapsed_s = now_utc_s - anchor
        limit_w, until = self.periods[0].limit_w, end
        for period in self.periods[1:]:
            if period.start_s > elapsed_s:
                until = min(end, anchor + period.start_s)
                break
            limit_w = period.limit_w
        return limit_w, min(until, self.valid_to_utc_s)


@dataclass(frozen=True, slots=True)
class InForce:
    """What the profiles say of one moment, and until when they say it."""

    station_w: float | None  # ChargePointMaxProfile
    session_w: float | None  # TxProfile, else TxDefaultProfile
    purpose: Purpose | None  # whose `session_w` is
    until_utc_s: float

    def bounds_w(self) -> tuple[float, float]:
        """Least and greatest power that the profiles permit; infinite where no profile holds."""
        low, high = -math.inf, math.inf
        for limit in (self.station_w, self.session_w):
            if limit is not None:
                limit_low, limit_high = window(limit)
                low, high = max(low, limit_low), min(high, limit_high)
        return low, high

    def command_w(self, default_w: float) -> float:
        """The set-point where the profile commands: the session's limit, else `default_w`, inside the station's."""
        wanted = default_w if self.session_w is None else self.session_w
        low, high = (-math.inf, math.inf) if self.station_w is None else window(self.station_w)
        return min(high, max(low, wanted))


def window(limit_w: float) -> tuple[float, float]:
    """Least and greatest power that one limit permits; see the module's docstring for the rule."""
    return (-limit_w, limit_w) if limit_w > 0.0 else (limit_w, 0.0)


class ProfileStore:
    """The profiles installed in a charge point with one connector.

    `revision` changes with every change of the set, so that a caller can keep what it worked out until then.
    """

    def __init__(self, *, max_profiles: int = 20, max_stack_level: int = 10, max_periods: int = 48) -> None:
        self.max_profiles = max_profiles
        self.max_stack_level = max_stack_level
        self.max_periods = max_periods
        self.revision = 0
        self._profiles: dict[tuple[int, Purpose, int], Profile] = {}

    def __len__(self) -> int:
        return len(self._profiles)

    def install(self, connector: int, profile: Profile) -> None:
        """Keep `profile`; it replaces one with its id, and one of its purpose, stack level and connector.

        ProfileRejected when it fits no connector, is beyond the limits of the store, or the store is full.
        """
        purpose = profile.purpose
        if purpose is Purpose.CHARGE_POINT_MAX and connector != 0:
            raise ProfileRejected("a ChargePointMaxProfile belongs to connector 0")
        if purpose is Purpose.CHARGE_POINT_MAX and profile.kind is Kind.RELATIVE:
            raise ProfileRejected("a ChargePointMaxProfile cannot be relative to a session")
        if purpose is Purpose.TX and connector == 0:
            raise ProfileRejected("a TxProfile belongs to a connector, not to connector 0")
        if not 0 <= profile.stack_level <= self.max_stack_level:
            raise ProfileRejected(f"stack level {profile.stack_level} is not in 0 to {self.max_stack_level}")
        if len(profile.periods) > self.max_periods:
            raise ProfileRejected(f"{len(profile.periods)} periods are more than {self.max_periods}")
        key = (connector, purpose, profile.stack_level)
        kept = {
            place: other
            for place, other in self._profiles.items()
            if place != key and other.profile_id != profile.profile_id
        }
        if len(kept) >= self.max_profiles:
            raise ProfileRejected(f"{self.max_profiles} profiles are installed already; clear one first")
        kept[key] = profile
        self._profiles = kept
        self.revision += 1

    def clear(
        self,
        *,
        profile_id: int | None = None,
        connector: int | None = None,
        purpose: Purpose | None = None,
        stack_level: int | None = None,
    ) -> int:
        """Remove every profile that meets all given criteria (an id alone decides); return how many went."""
        kept: dict[tuple[int, Purpose, int], Profile] = {}
        for place, profile in self._profiles.items():
            if profile_id is not None:
                meets = profile.profile_id == profile_id
            else:
                meets = (
                    connector in {None, place[0]} and purpose in {None, place[1]} and stack_level in {None, place[2]}
                )
            if not meets:
                kept[place] = profile
        removed = len(self._profiles) - len(kept)
        if removed:
            self._profiles = kept
            self.revision += 1
        return removed

    def in_force(self, now_utc_s: float, session_start_utc_s: float) -> InForce:
        """What holds for connector 1 at this moment."""
        station_w, until = self._leading(Purpose.CHARGE_POINT_MAX, now_utc_s, session_start_utc_s)
        purpose = Purpose.TX
        session_w, session_until = self._leading(purpose, now_utc_s, session_start_utc_s)
        if session_w is None:
            purpose = Purpose.TX_DEFAULT
            session_w, default_until = self._leading(purpose, now_utc_s, session_start_utc_s)
            session_until = min(session_until, default_until)
        return InForce(station_w, session_w, None if session_w is None else purpose, min(until, session_until))

    def composite(
        self, now_utc_s: float, session_start_utc_s: float, duration_s: int, *, default_w: float
    ) -> tuple[tuple[Period, ...], int]:
        """The limits ahead as one schedule from now on, and the seconds it covers (fewer when periods run out)."""
        periods: list[Period] = []
        moment, end = now_utc_s, now_utc_s + duration_s
        while moment < end:
            start_s = round(moment - now_utc_s)
            holding = self.in_force(moment, session_start_utc_s)
            limit_w = holding.command_w(default_w)
            if periods and periods[-1].start_s == start_s:
                periods.pop()
            if not periods or periods[-1].limit_w != limit_w:
                if len(periods) == self.max_periods:
                    return tuple(periods), start_s
                periods.append(Period(start_s, limit_w))
            moment = max(holding.until_utc_s, math.nextafter(moment, math.inf))
        return tuple(periods), duration_s

    def _leading(self, purpose: Purpose, now_utc_s: float, session_start_utc_s: float) -> tuple[float | None, float]:
        until = _NEVER
        for profile in self._ordered(purpose):
            limit_w, profile_until = profile.at(now_utc_s, session_start_utc_s)
            until = min(until, profile_until)
            if limit_w is not None:
                return limit_w, until
        return None, until

    def _ordered(self, purpose: Purpose) -> Iterable[Profile]:
        # At one stack level the profile of the connector itself replaces that of connector 0 (section 5.16).
        places = sorted((place for place in self._profiles if place[1] is purpose), key=lambda p: (-p[2], -p[0]))
        return [self._profiles[place] for place in places]


def _periods(schedule: Payload) -> tuple[Period, ...]:
    amperes = text(schedule, "chargingRateUnit") == "A"
    periods: list[Period] = []
    for entry in members(schedule, "chargingSchedulePeriod"):
        limit_w = number(entry, "limit")
        if amperes:
            limit_w *= NOMINAL_VOLTAGE_V * integer(entry, "numberPhases", 3)
        start_s = integer(entry, "startPeriod")
        if not abs(limit_w) <= _GREATEST_LIMIT_W:
            raise ProfileRejected(f"a limit of {limit_w:g} W is beyond any charger")
        if start_s != 0 if not periods else start_s <= periods[-1].start_s:
            raise ProfileRejected("the periods must begin at 0 and follow each other in time")
        periods.append(Period(start_s, limit_w))
    if not periods:
        raise ProfileRejected("a schedule needs at least one period")
    return tuple(periods)
