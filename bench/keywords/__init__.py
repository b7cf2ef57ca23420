"""Keywords for Robot Framework: `Library    bench.keywords`.

    *** Settings ***
    Library           bench.keywords
    Test Teardown     Close Station

    *** Test Cases ***
    Five Kilowatts Leave The Van
        Open Station
        Plug In Vehicle
        Start Session        lasts=10 min
        Set Charger Power    -5 kW    within=15 s
        Get Meter Power      ac    <=    -4.75 kW    retry_for=10 s

The library is put together from one component per topic, and Robot asks it by name (its hybrid interface). Keywords are
thin: they turn a plan's words into quantities with units, ask the bench, and judge what came back.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from bench.keywords.certification import CertificationKeywords
from bench.keywords.component import Component
from bench.keywords.meter import MeterKeywords
from bench.keywords.money import MONEY_CONVERTERS
from bench.keywords.nodes import NodeKeywords
from bench.keywords.payments import PaymentKeywords
from bench.keywords.power import PowerKeywords
from bench.keywords.quantities import CONVERTERS
from bench.keywords.robot_face import is_keyword
from bench.keywords.session import SessionKeywords
from bench.keywords.station import StationKeywords
from bench.keywords.vehicle import VehicleKeywords
from bench.keywords.waiting import WaitingKeywords
from bench.keywords.workbench import AutoClose, Workbench


class BenchLibrary:
    """Run a vehicle-to-grid session at a station, emulated or metal, and certify it.

    = Quantities =
    Every value has a unit: ``5 kW``, ``-4750 W``, ``10 min``, ``55 %``, ``30 °C``. A number without one is refused.
    Positive power charges the vehicle, negative power comes out of it. Amounts of money are exact: ``224750 msat``.

    = Time =
    All durations are session time. At an emulated station with a stepped clock an hour passes in seconds; on metal
    it is real. Use `Wait`, never ``Sleep``.

    = Getters =
    A getter reads, and with an operator (``<``, ``<=``, ``>``, ``>=``) also judges. With ``retry_for`` it reads again
    each cycle until the judgement holds, for so much session time. Only a failed judgement is retried; a tripped limit
    or a dead link fails at once.

    = Safety =
    The station's limits are guarded in every cycle whatever the plan does. A limit that trips brings the charger to its
    safe state, and each keyword after it fails with InterlockTripped. A station is closed through the safe state at
    the end of the test that opened it, or of the suite whose set-up did. The bench is no safety device: it
    supervises beside the laboratory's own protection.

    = Variables =
    ``${STATION}`` (station file), ``${RUNS}`` (folder for run folders), ``${ENERGISE}`` (``yes`` lets real power flow
    at metal stations) and ``${ANSWERS}`` (file with the operator's answers) come from the options of ``v2gbench run``,
    or from ``robot --variable STATION:FILE``.
    """

    ROBOT_LIBRARY_SCOPE: ClassVar[str] = "GLOBAL"
    ROBOT_LIBRARY_DOC_FORMAT: ClassVar[str] = "ROBOT"
    ROBOT_LIBRARY_CONVERTERS: ClassVar[dict[type, Callable[..., object]]] = {**CONVERTERS, **MONEY_CONVERTERS}

    def __init__(self) -> None:
        self.bench = Workbench()
        self.ROBOT_LIBRARY_LISTENER = AutoClose(self.bench)
        components: Sequence[Component] = (
            StationKeywords(self.bench),
            SessionKeywords(self.bench),
            PowerKeywords(self.bench),
            MeterKeywords(self.bench),
            VehicleKeywords(self.bench),
            WaitingKeywords(self.bench),
            CertificationKeywords(self.bench),
            NodeKeywords(self.bench),
            PaymentKeywords(self.bench),
        )
        self._keywords: dict[str, Callable[..., Any]] = {
            name: method
            for component in components
            for name, method in inspect.getmembers(component, inspect.ismethod)
            if is_keyword(method)
        }

    def get_keyword_names(self) -> list[str]:
        """The names of all keywords, for Robot."""
        return list(self._keywords)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """A keyword by its name, for Robot."""
        try:
            return self.__dict__["_keywords"][name]  # type: ignore[no-any-return]  # filled by __init__
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no keyword {name!r}") from None


keywords = BenchLibrary
"""The class under the name of its module: how Robot finds it for `Library    bench.keywords`."""
