"""The Charger role's contract, kept over OCPP: a charge point twin, the central system, and the driver between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from drivers.charger.ocpp import OcppCharger, OcppChargerConfig
from drivers.roles import WatchdogKind
from drivers.service_loop import ServiceLoop
from services.csms.central_system import CentralSystem
from tests.drivers.contract_charger import ChargerBench, ChargerContract, make_site
from twins.faces.ocpp import ChargePointFace

pytestmark = pytest.mark.wire


class TestOcppContract(ChargerContract):
    watchdog = WatchdogKind.PROFILE
    tells_vehicle_limits = False
    tells_dc = True

    @pytest.fixture
    def bench(self) -> Iterator[ChargerBench]:
        site, clock = make_site()
        with ExitStack() as stack:
            loop = stack.enter_context(ServiceLoop())
            csms = stack.enter_context(CentralSystem(loop, clock=clock, stepped=True))
            face = stack.enter_context(
                ChargePointFace(site.charger, site, loop, url=csms.url, identity="CP1", profile_commands=True)
            )
            config = OcppChargerConfig(connect_s=2.0, reply_s=1.0, start_s=2.0)

            def again() -> OcppCharger:
                return OcppCharger(config, csms.link("CP1"), clock, device="charger")

            yield ChargerBench(stack.enter_context(again()), site, clock, loop, again, face.close)
