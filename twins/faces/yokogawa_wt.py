"""The command set of a Yokogawa WT3000 on top of `twins.faces.scpi`: the voice of the power analyzer twin.

Supported are the groups that a test bench uses (listed in docs/power-analyzer.md); another header is answered as the
instrument does, with 113 in the error queue. Settings belong to the instrument and are shared by all clients, as on the
front panel; error queue and event registers belong to each client.

Not modelled: harmonics (an item with an order other than TOTal has no data), scaling by external transformers, other
wirings than the one the twin is wired with, and the local lock-out.
"""

from __future__ import annotations

import calendar
import math
import re
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Final

from drivers.power_meter.wt_family import (
    CONDITION_INTEGRATING,
    CONDITION_OVER_RANGE_ELEMENT_1,
    CONDITION_PEAK_OVER,
    CONDITION_TIMER,
    CONDITION_UPDATING,
    CURRENT_RANGES_A,
    ERRORS,
    FUNCTIONS,
    INTEGRATED,
    MAX_ITEMS,
    NO_DATA_BITS,
    NO_DATA_WORD,
    OVER_RANGE_BITS,
    OVER_RANGE_WORD,
    UPDATE_INTERVALS_S,
    VOLTAGE_RANGES_V,
)
from drivers.service_loop import ServiceLoop
from twins.faces.scpi import Call, CommandTree, ScpiError, ScpiFace, ScpiSession
from twins.instrument.power_analyzer import (
    AC_ELEMENTS,
    DC_ELEMENT,
    ELEMENTS,
    AnalyzerRefused,
    Element,
    InputSettings,
    IntegrationMode,
    IntegrationState,
    PowerAnalyzer,
    Snapshot,
)

DEFAULT_ITEMS: Final = 15
_INPUT_ELEMENT_A = 30
_RESET_UPDATE_S = 0.5  # after *RST; from memory
_NONE: Final = ("NONE", "", "")

Item = tuple[str, str, str]  # function, element, order; long forms
Getter = Callable[[Snapshot], float]

# Words as the manual writes them: capitals are the short form.
_FUNCTION_WORDS: Final = tuple("LAMBda" if name == "LAMBDA" else name for name in FUNCTIONS)
_ELEMENT_WORDS: Final = (*(str(number) for number in range(1, ELEMENTS + 1)), "SIGMa", "SIGMB")
_FORMATS: Final = ("ASCii", "FLOat")
_EDGES: Final = ("RISE", "FALL", "BOTH", "NEVer")
_MODES: Final = ("NORMal", "CONTinuous", "RNORmal", "RCONtinuous")
_INPUT_MODES: Final = ("RMS", "DC")
_STATES: Final = ("RESet", "READy", "STARt", "STOP", "TIMeup")
_SYNCHRONIZE: Final = (*(f"{side}{n}" for n in range(1, ELEMENTS + 1) for side in "UI"), "NONE")


def _error(code: int) -> ScpiError:
    return ScpiError(code, ERRORS[code])


class WtSession(ScpiSession):
    """One client: its extended event register, transition filters, and the events it waits for."""

    def __init__(self, analyzer: PowerAnalyzer) -> None:
        super().__init__()
        self.filters = ["NEVer"] * 16
        self.extended_events = 0
        self.extended_mask = 0
        self.wait_mask = 0
        self._analyzer = analyzer
        self._seen_number = analyzer.snapshot.number
        self._seen_condition = condition(analyzer)

    def clear(self) -> None:
        """Do what `*CLS` does; the events of before do not come back."""
        super().clear()
        self.look()
        self.extended_events = 0

    def look(self) -> int:
        """Put what happened since the last look through the filters; return the extended event register."""
        number = self._analyzer.snapshot.number
        if number != self._seen_number:  # an update is both edges of UPD
            self._seen_number = number
            if self.filters[0] != "NEVer":
                self.extended_events |= CONDITION_UPDATING
        now = condition(self._analyzer)
        changed = now ^ self._seen_condition
        self._seen_condition = now
        for bit, edge in enumerate(self.filters):
            if changed >> bit & 1 and (edge == "BOTH" or edge == ("RISE" if now >> bit & 1 else "FALL")):
                self.extended_events |= 1 << bit
        return self.extended_events

    def waits(self) -> bool:
        """Whether `:COMMunicate:WAIT` still holds back the rest of the message."""
        if self.wait_mask and self.look() & self.wait_mask:
            self.wait_mask = 0
        return self.wait_mask != 0


def condition(analyzer: PowerAnalyzer) -> int:
    """Return the condition register, IM WT3001E-17EN section 7.4; UPD never stands, an update takes no time here."""
    register = 0
    if analyzer.integration_state is IntegrationState.START:
        register |= CONDITION_INTEGRATING
        if analyzer.integration_settings.timer_s:
            register |= CONDITION_TIMER
    snapshot = analyzer.snapshot
    for index, element in enumerate(snapshot.elements):
        if element.over_range:
            register |= CONDITION_OVER_RANGE_ELEMENT_1 << index
    return register | (CONDITION_PEAK_OVER if snapshot.peak_over else 0)


class YokogawaFace(ScpiFace[WtSession]):
    """The analyzer on TCP. `lock` is the site's; the face answers on the loop's thread."""

    def __init__(
        self,
        analyzer: PowerAnalyzer,
        lock: AbstractContextManager[object],
        loop: ServiceLoop,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        commands = _CommandSet(analyzer)
        super().__init__(commands.tree, lambda: WtSession(analyzer), lock, loop, host=host, port=port)
        analyzer.on_update.append(self.wake)


class _CommandSet:
    """The front panel's settings, and the handlers that read and change them."""

    def __init__(self, analyzer: PowerAnalyzer) -> None:
        self.tree: CommandTree[WtSession] = CommandTree()
        self._analyzer = analyzer
        self._header = True
        self._verbose = True
        self._remote = False
        self._format = "ASCii"
        self._held: Snapshot | None = None
        self._crest_factor = 3
        self._with_message = True
        self._number = DEFAULT_ITEMS
        self._items: list[Item] = []
        self._getters: list[Getter] = []
        self._preset_items(1)
        self._add_common()
        self._add_communicate()
        self._add_status()
        self._add_numeric()
        self._add_integrate()
        self._add_input()

    # Answers

    def _headed(self, pattern: str, data: str, suffixes: Iterable[int] = ()) -> str:
        return f"{self._header_text(pattern, suffixes)} {data}" if self._header else data

    def _header_text(self, pattern: str, suffixes: Iterable[int] = ()) -> str:
        if self._verbose:
            text = pattern.replace("[", "").replace("]", "").upper()
        else:  # the abbreviated form leaves out what may be left out
            text = re.sub(r"[a-wyz]|x(?!>)", "", re.sub(r"\[.*?\]", "", pattern)).replace("<x>", "<X>")
        for suffix in suffixes:
            text = text.replace("<X>", str(suffix), 1)
        return text

    def _word(self, word: str) -> str:
        return word.upper() if self._verbose else "".join(c for c in word if not c.islower())

    def _setting(
        self, pattern: str, set_: Callable[[str], None], get: Callable[[], str], *, changes_measurement: bool = False
    ) -> None:
        """Declare a command with one argument and its query."""

        def change(_: WtSession, call: Call) -> None:
            if changes_measurement:
                self._refuse_while_integrating()
            set_(call.one())

        def ask(_: WtSession, call: Call) -> str:
            _no_arguments(call)
            return self._headed(pattern, get())

        self.tree.add(pattern, set_=change, query=ask)

    def _query(self, pattern: str, get: Callable[[WtSession], str]) -> None:
        """Declare a query whose answer has no header."""

        def ask(session: WtSession, call: Call) -> str:
            _no_arguments(call)
            return get(session)

        self.tree.add(pattern, query=ask)

    def _action(self, pattern: str, act: Callable[[WtSession], None]) -> None:
        """Declare a command without arguments."""

        def do(session: WtSession, call: Call) -> None:
            _no_arguments(call)
            act(session)

        self.tree.add(pattern, set_=do)

    def _refuse_while_integrating(self) -> None:
        if self._analyzer.integration_state is not IntegrationState.RESET:
            raise _error(221)

    # Common commands

    def _add_common(self) -> None:
        analyzer = self._analyzer
        self._query("*IDN", lambda _: f"YOKOGAWA,WT3000-TWIN,{analyzer.serial},F1.00")
        self._query("*OPT", lambda _: "NONE")
        self._query("*TST", lambda _: "0")
        self._action("*CLS", WtSession.clear)
        self._action("*RST", self._reset)
        self._action("*WAI", lambda _: None)
        self.tree.add("*OPC", set_=self._operation_complete, query=lambda _session, _call: "1")
        self.tree.add("*ESE", set_=self._set_standard_mask, query=lambda s, _: str(s.standard_mask))
        self.tree.add("*SRE", set_=self._set_service_mask, query=lambda s, _: str(s.service_mask))
        self._query("*ESR", self._standard_events)
        self._query("*STB", self._status_byte)

    def _reset(self, _: WtSession) -> None:
        analyzer = self._analyzer
        if analyzer.integration_state in {IntegrationState.START, IntegrationState.READY}:
            analyzer.stop_integration()
        analyzer.reset_integration()
        analyzer.integration_settings.mode = IntegrationMode.NORMAL
        analyzer.integration_settings.timer_s = 0.0
        analyzer.set_update_interval(_RESET_UPDATE_S)
        analyzer.set_default_inputs()
        self._format = "ASCii"
        self._held = None
        self._crest_factor = 3
        self._number = DEFAULT_ITEMS
        self._preset_items(1)

    @staticmethod
    def _operation_complete(session: WtSession, call: Call) -> None:
        _no_arguments(call)
        session.standard_events |= 1

    @staticmethod
    def _set_standard_mask(session: WtSession, call: Call) -> None:
        session.standard_mask = _integer(call.one(), 0, 255)

    @staticmethod
    def _set_service_mask(session: WtSession, call: Call) -> None:
        session.service_mask = _integer(call.one(), 0, 255)

    @staticmethod
    def _standard_events(session: WtSession) -> str:
        events, session.standard_events = session.standard_events, 0
        return str(events)

    @staticmethod
    def _status_byte(session: WtSession) -> str:
        status = 0x04 if session.errors else 0
        if session.look() & session.extended_mask:
            status |= 0x08
        if session.standard_events & session.standard_mask:
            status |= 0x20
        return str(status | (0x40 if status & session.service_mask else 0))

    # COMMunicate

    def _add_communicate(self) -> None:
        flags = (("HEADer", "_header"), ("VERBose", "_verbose"), ("REMote", "_remote"))
        for name, attribute in flags:
            self._flag(f":COMMunicate:{name}", self, attribute)
        self.tree.add(":COMMunicate:WAIT", set_=self._wait, query=self._wait_and_tell)
        self.tree.add(":COMMunicate", query=self._communicate)

    def _flag(self, pattern: str, owner: object, attribute: str) -> None:
        self._setting(
            pattern,
            lambda text: setattr(owner, attribute, _boolean(text)),
            lambda: str(int(bool(getattr(owner, attribute)))),
        )

    def _communicate(self, _: WtSession, call: Call) -> str:
        _no_arguments(call)
        return self._group(
            ":COMMunicate",
            [
                ("HEADer", str(int(self._header))),
                ("REMote", str(int(self._remote))),
                ("VERBose", str(int(self._verbose))),
            ],
        )

    def _group(self, pattern: str, settings: Iterable[tuple[str, str]]) -> str:
        """Answer a query above several settings: the first carries the whole header, the others their last part."""
        if not self._header:
            return ";".join(data for _, data in settings)
        parts = [f"{self._header_text(name)} {data}" for name, data in settings]
        return f"{self._header_text(pattern)}:{';'.join(parts)}"

    @staticmethod
    def _wait(session: WtSession, call: Call) -> None:
        session.wait_mask = _integer(call.one(), 0, 0xFFFF)

    @staticmethod
    def _wait_and_tell(session: WtSession, call: Call) -> str:
        session.wait_mask = _integer(call.one(), 0, 0xFFFF)
        return "1"

    # STATus

    def _add_status(self) -> None:
        self._query(":STATus:CONDition", lambda _: str(condition(self._analyzer)))
        self._query(":STATus:EESR", self._extended_events)
        self.tree.add(
            ":STATus:EESE",
            set_=self._set_extended_mask,
            query=lambda session, _: self._headed(":STATus:EESE", str(session.extended_mask)),
        )
        self._query(":STATus:ERRor", self._next_error)
        self._flag(":STATus:QMESsage", self, "_with_message")
        self.tree.add(":STATus:FILTer<x>", set_=self._set_filter, query=self._get_filter)

    @staticmethod
    def _extended_events(session: WtSession) -> str:
        events = session.look()
        session.extended_events = 0
        return str(events)

    @staticmethod
    def _set_extended_mask(session: WtSession, call: Call) -> None:
        session.extended_mask = _integer(call.one(), 0, 0xFFFF)

    def _next_error(self, session: WtSession) -> str:
        code, text = session.next_error()
        return f'{code},"{text}"' if self._with_message else str(code)

    @staticmethod
    def _set_filter(session: WtSession, call: Call) -> None:
        number = _suffix(call, 16)
        session.look()
        session.filters[number - 1] = _choice(call.one(), _EDGES)

    def _get_filter(self, session: WtSession, call: Call) -> str:
        _no_arguments(call)
        number = _suffix(call, 16)
        return self._headed(":STATus:FILTer<x>", self._word(session.filters[number - 1]), (number,))

    # NUMeric

    def _add_numeric(self) -> None:
        self._setting(":NUMeric:FORMat", self._set_format, lambda: self._word(self._format))
        self._setting(":NUMeric:HOLD", self._set_hold, lambda: str(int(self._held is not None)))
        self._setting(":NUMeric[:NORMal]:NUMber", self._set_number, lambda: str(self._number))
        self.tree.add(":NUMeric[:NORMal]:ITEM<x>", set_=self._set_item, query=self._get_item)
        self.tree.add(":NUMeric[:NORMal]:PRESet", set_=lambda _, call: self._preset_items(_integer(call.one(), 1, 4)))
        self.tree.add(":NUMeric[:NORMal]:CLEar", set_=self._clear)
        self.tree.add(":NUMeric[:NORMal]:VALue", query=self._values)
        self.tree.add(":NUMeric[:NORMal]", query=self._numeric)

    def _set_format(self, text: str) -> None:
        self._format = _choice(text, _FORMATS)

    def _set_hold(self, text: str) -> None:
        self._held = self._analyzer.snapshot if _boolean(text) else None

    def _set_number(self, text: str) -> None:
        self._number = MAX_ITEMS if text.upper() == "ALL" else _integer(text, 1, MAX_ITEMS)

    def _set_item(self, _: WtSession, call: Call) -> None:
        number = _suffix(call, MAX_ITEMS)
        if not call.arguments:
            raise _error(109)
        self._put(number, _item(call.arguments))

    def _get_item(self, _: WtSession, call: Call) -> str:
        _no_arguments(call)
        number = _suffix(call, MAX_ITEMS)
        return self._headed(":NUMeric[:NORMal]:ITEM<x>", self._item_text(number), (number,))

    def _item_text(self, number: int) -> str:
        function, element, order = self._items[number - 1]
        words = [
            self._word(_spelled(function, _FUNCTION_WORDS)),
            self._word(_spelled(element, _ELEMENT_WORDS)) if element else "",
            self._word("TOTal") if order == "TOTAL" else order,
        ]
        return ",".join(word for word in words if word)

    def _put(self, number: int, item: Item) -> None:
        self._items[number - 1] = item
        self._getters[number - 1] = self._getter(item)

    def _preset_items(self, pattern: int) -> None:
        """Fill the item table: 1 U, I, P; 2 adds S, Q, LAMBDA, PHI, FU; 3 adds integrals; 4 everything."""
        functions = {
            1: ("U", "I", "P"),
            2: ("U", "I", "P", "S", "Q", "LAMBDA", "PHI", "FU"),
            3: ("U", "I", "P", "S", "Q", "LAMBDA", "PHI", "FU", "WH", "WHP", "WHM", "AH", "AHP", "AHM", "TIME"),
            4: tuple(FUNCTIONS),
        }[pattern]
        elements = (*(str(number) for number in range(1, ELEMENTS + 1)), "SIGMA")
        items: list[Item] = [(function, element, "") for element in elements for function in functions]
        items += [_NONE] * (MAX_ITEMS - len(items))
        self._items = items
        self._getters = [self._getter(item) for item in items]

    def _clear(self, _: WtSession, call: Call) -> None:
        if len(call.arguments) > 2:
            raise _error(108)
        if not call.arguments or call.arguments[0].upper() == "ALL":
            first, last = 1, MAX_ITEMS
        else:
            first = _integer(call.arguments[0], 1, MAX_ITEMS)
            last = _integer(call.arguments[-1], first, MAX_ITEMS)
        for number in range(first, last + 1):
            self._put(number, _NONE)

    def _numeric(self, _: WtSession, call: Call) -> str:
        _no_arguments(call)
        settings = [("NUMber", str(self._number))]
        settings += [(f"ITEM{number}", self._item_text(number)) for number in range(1, self._number + 1)]
        return self._group(":NUMeric[:NORMal]", settings)

    def _values(self, _: WtSession, call: Call) -> str | bytes:
        snapshot = self._held or self._analyzer.snapshot
        if call.arguments:
            number = _integer(call.one(), 1, MAX_ITEMS)
            first, last = number - 1, number
        else:
            first, last = 0, self._number
        values = [getter(snapshot) for getter in self._getters[first:last]]
        if self._format == "FLOat":
            return _float_block(values)
        return ",".join(
            _ascii_value(value, 7 if item[0] in INTEGRATED else 5)
            for value, item in zip(values, self._items[first:last], strict=True)
        )

    def _getter(self, item: Item) -> Getter:
        function, element, order = item
        if function == "NONE" or element == "SIGMB" or order not in {"", "TOTAL"}:
            return _no_data  # the second wiring unit is a single element, so there is no second sum
        if function == "TIME":
            return lambda snapshot: snapshot.integrated_s
        measure = self._measure(function)
        if element == "SIGMA":
            return _sigma(function, measure, [number - 1 for number in AC_ELEMENTS])
        index = int(element) - 1
        return lambda snapshot: measure(snapshot.elements[index], index)

    def _measure(self, function: str) -> Callable[[Element, int], float]:
        """Return how one function is computed for one element; infinity stands for over-range, NaN for no data."""
        if function in _PLAIN:
            attribute = _PLAIN[function]
            return lambda element, _: attribute(element)
        if function in {"U", "URMS", "UDC"}:
            return lambda element, index: self._by_mode(function, element.voltage_v, element, index)
        if function in {"I", "IRMS", "IDC"}:
            return lambda element, index: self._by_mode(function, element.current_a, element, index)
        compute = _COMPUTED[function]
        return lambda element, _: math.inf if element.over_range else compute(element)

    def _by_mode(self, function: str, value: float, element: Element, index: int) -> float:
        if element.over_range:
            return math.inf
        is_dc = function.endswith("DC") or (not function.endswith("RMS") and self._analyzer.inputs[index].mode == "DC")
        if index + 1 == DC_ELEMENT:
            return value if is_dc else abs(value)
        return 0.0 if is_dc else value  # the mean of a sine

    # INTEGrate and RATE

    def _add_integrate(self) -> None:
        analyzer = self._analyzer
        settings = analyzer.integration_settings
        self._setting(":RATE", self._set_rate, lambda: _nr3(analyzer.update_s, 4), changes_measurement=True)
        self._setting(
            ":INTEGrate:MODE",
            self._set_mode,
            lambda: self._word(_spelled(settings.mode, _MODES)),
            changes_measurement=True,
        )
        self.tree.add(
            ":INTEGrate:TIMer",
            set_=self._set_timer,
            query=lambda _session, _call: self._headed(":INTEGrate:TIMer", _hms(settings.timer_s)),
        )
        for name, attribute in (("STARt", "begin_utc_s"), ("END", "end_utc_s")):
            self._real_time(f":INTEGrate:RTIMe:{name}", attribute)
        self._flag(":INTEGrate:ACAL", settings, "auto_calibration")
        self._action(":INTEGrate:STARt", lambda _: _attempt(analyzer.start_integration))
        self._action(":INTEGrate:STOP", lambda _: _attempt(analyzer.stop_integration))
        self._action(":INTEGrate:RESet", lambda _: _attempt(analyzer.reset_integration))
        self._query(":INTEGrate:STATe", lambda _: self._word(_spelled(analyzer.integration_state, _STATES)))
        self.tree.add(":INTEGrate", query=self._integrate)

    def _set_rate(self, text: str) -> None:
        interval_s = _number(text, {"": 1.0, "S": 1.0, "MS": 1e-3})
        fitting = next((each for each in UPDATE_INTERVALS_S if math.isclose(each, interval_s)), None)
        if fitting is None:
            raise _error(222)
        self._analyzer.set_update_interval(fitting)

    def _set_mode(self, text: str) -> None:
        self._analyzer.integration_settings.mode = IntegrationMode(_choice(text, _MODES).upper())

    def _set_timer(self, _: WtSession, call: Call) -> None:
        self._refuse_while_integrating()
        if len(call.arguments) != 3:
            raise _error(109 if len(call.arguments) < 3 else 108)
        hours, minutes, seconds = call.arguments
        timer_s = _integer(hours, 0, 10_000) * 3600 + _integer(minutes, 0, 59) * 60 + _integer(seconds, 0, 59)
        if timer_s > 10_000 * 3600:
            raise _error(222)
        self._analyzer.integration_settings.timer_s = float(timer_s)

    def _real_time(self, pattern: str, attribute: str) -> None:
        settings = self._analyzer.integration_settings

        def change(_: WtSession, call: Call) -> None:
            self._refuse_while_integrating()
            setattr(settings, attribute, _utc_from(call.arguments))

        def ask(_: WtSession, call: Call) -> str:
            _no_arguments(call)
            moment = time.gmtime(getattr(settings, attribute))
            return self._headed(pattern, ",".join(str(part) for part in moment[:6]))

        self.tree.add(pattern, set_=change, query=ask)

    def _integrate(self, _: WtSession, call: Call) -> str:
        _no_arguments(call)
        settings = self._analyzer.integration_settings
        return self._group(
            ":INTEGrate",
            [
                ("MODE", self._word(_spelled(settings.mode, _MODES))),
                ("TIMer", _hms(settings.timer_s)),
                ("ACAL", str(int(settings.auto_calibration))),
            ],
        )

    # INPut

    def _add_input(self) -> None:
        self.tree.add(
            "[:INPut]:WIRing",
            set_=self._set_wiring,
            query=lambda _session, _call: self._headed("[:INPut]:WIRing", ",".join(self._analyzer.wiring)),
        )
        self._setting("[:INPut]:CFACtor", self._set_crest_factor, lambda: str(self._crest_factor))
        self._query("[:INPut]:POVer", lambda _: str(self._analyzer.snapshot.peak_over))
        self.tree.add("[:INPut]:MODUle", query=self._module)
        self._per_element(
            "[:INPut]:VOLTage:RANGe",
            lambda one, text: setattr(one, "voltage_range_v", _range(text, VOLTAGE_RANGES_V)),
            lambda one: _nr3(one.voltage_range_v, 4),
        )
        self._per_element(
            "[:INPut]:CURRent:RANGe",
            lambda one, text: setattr(one, "current_range_a", _range(text, CURRENT_RANGES_A)),
            lambda one: _nr3(one.current_range_a, 4),
        )
        for side in ("VOLTage", "CURRent"):
            self._per_element(
                f"[:INPut]:{side}:MODE",
                lambda one, text: setattr(one, "mode", _choice(text, _INPUT_MODES)),
                lambda one: one.mode,
            )
        flags = (
            ("VOLTage:AUTO", "voltage_auto"),
            ("CURRent:AUTO", "current_auto"),
            ("FILTer:LINE", "line_filter"),
            ("FILTer:FREQuency", "frequency_filter"),
        )
        for name, attribute in flags:
            self._element_flag(f"[:INPut]:{name}", attribute)
        self._per_element(
            "[:INPut]:SYNChronize",
            lambda one, text: setattr(one, "synchronize", _choice(text, _SYNCHRONIZE)),
            lambda one: one.synchronize,
        )

    def _element_flag(self, pattern: str, attribute: str) -> None:
        self._per_element(
            pattern,
            lambda one, text: setattr(one, attribute, _boolean(text)),
            lambda one: str(int(getattr(one, attribute))),
        )

    def _set_wiring(self, _: WtSession, call: Call) -> None:
        if tuple(argument.upper() for argument in call.arguments) != self._analyzer.wiring:
            raise _error(221)

    def _set_crest_factor(self, text: str) -> None:
        factor = _integer(text, 3, 6)
        if factor not in {3, 6}:
            raise _error(222)
        self._crest_factor = factor

    def _module(self, _: WtSession, call: Call) -> str:
        if call.arguments:
            _integer(call.one(), 1, ELEMENTS)
            return str(_INPUT_ELEMENT_A)
        return ",".join([str(_INPUT_ELEMENT_A)] * ELEMENTS)

    def _per_element(
        self, pattern: str, put: Callable[[InputSettings, str], None], get: Callable[[InputSettings], str]
    ) -> None:
        """Declare a setting that each element has: `[:ALL]` sets all, `:ELEMent<x>` one, the query tells all or one."""

        def change_all(_: WtSession, call: Call) -> None:
            self._refuse_while_integrating()
            for one in self._analyzer.inputs:
                put(one, call.one())

        def ask_all(_: WtSession, call: Call) -> str:
            _no_arguments(call)
            data = [(f"ELEMent{index + 1}", get(one)) for index, one in enumerate(self._analyzer.inputs)]
            return self._group(pattern, data)

        def change(_: WtSession, call: Call) -> None:
            self._refuse_while_integrating()
            put(self._analyzer.inputs[_suffix(call, ELEMENTS) - 1], call.one())

        def ask(_: WtSession, call: Call) -> str:
            _no_arguments(call)
            number = _suffix(call, ELEMENTS)
            return self._headed(f"{pattern}:ELEMent<x>", get(self._analyzer.inputs[number - 1]), (number,))

        self.tree.add(f"{pattern}[:ALL]", set_=change_all, query=ask_all)
        self.tree.add(f"{pattern}:ELEMent<x>", set_=change, query=ask)


# Values


def _no_data(_: Snapshot) -> float:
    return math.nan


def _apparent(element: Element) -> float:
    return abs(element.voltage_v * element.current_a)


def _reactive(element: Element) -> float:
    return math.sqrt(max(0.0, _apparent(element) ** 2 - element.power_w**2))


def _power_factor(power_w: float, apparent_va: float) -> float:
    return max(-1.0, min(1.0, power_w / apparent_va)) if apparent_va else math.nan


_PLAIN: Final[dict[str, Callable[[Element], float]]] = {
    "FU": lambda element: element.frequency_hz,
    "FI": lambda element: element.frequency_hz,
    "WH": lambda element: element.positive_wh + element.negative_wh,
    "WHP": lambda element: element.positive_wh,
    "WHM": lambda element: element.negative_wh,
    "AH": lambda element: element.positive_ah + element.negative_ah,
    "AHP": lambda element: element.positive_ah,
    "AHM": lambda element: element.negative_ah,
    "WS": lambda element: element.apparent_vah,
    "WQ": lambda element: element.reactive_varh,
}

_COMPUTED: Final[dict[str, Callable[[Element], float]]] = {
    "P": lambda element: element.power_w,
    "S": _apparent,
    "Q": _reactive,
    "LAMBDA": lambda element: _power_factor(element.power_w, _apparent(element)),
    "PHI": lambda element: math.degrees(math.acos(_power_factor(element.power_w, _apparent(element)))),
}

_AVERAGED: Final = frozenset({"U", "I", "URMS", "IRMS", "UDC", "IDC"})  # of three phases, by wiring P3W4


def _sigma(function: str, measure: Callable[[Element, int], float], indices: list[int]) -> Getter:
    """Return the SIGMA value of the phases: sums, averages, and what follows from sums."""
    if function in {"FU", "FI"}:
        return _no_data
    if function in {"LAMBDA", "PHI"}:

        def ratio(snapshot: Snapshot) -> float:
            elements = [snapshot.elements[index] for index in indices]
            if any(element.over_range for element in elements):
                return math.inf
            factor = _power_factor(sum(e.power_w for e in elements), sum(_apparent(e) for e in elements))
            return factor if function == "LAMBDA" else math.degrees(math.acos(factor))

        return ratio
    divisor = len(indices) if function in _AVERAGED else 1

    def total(snapshot: Snapshot) -> float:
        elements = snapshot.elements
        value = 0.0
        for index in indices:
            value += measure(elements[index], index)
        return value / divisor

    return total


# Numbers and words on the wire


def _float_block(values: list[float]) -> bytes:
    """Return a definite-length block of big-endian singles."""
    if all(map(math.isfinite, values)):
        data = struct.pack(f">{len(values)}f", *values)
    else:
        data = b"".join(
            struct.pack(">f", value)
            if math.isfinite(value)
            else struct.pack(">I", NO_DATA_BITS if math.isnan(value) else OVER_RANGE_BITS)
            for value in values
        )
    return b"#4%04d" % len(data) + data


def _ascii_value(value: float, digits: int) -> str:
    if math.isfinite(value):
        return _nr3(value, digits)
    return NO_DATA_WORD if math.isnan(value) else OVER_RANGE_WORD


def _nr3(value: float, digits: int) -> str:
    """Return `value` with `digits` significant digits and an exponent that is a multiple of 3: 103.79E+00."""
    if value == 0.0:
        return f"{0:.{digits - 1}f}E+00"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    shift = power % 3
    return f"{float(mantissa) * 10**shift:.{digits - 1 - shift}f}E{power - shift:+03d}"


def _hms(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600},{whole // 60 % 60},{whole % 60}"


def _no_arguments(call: Call) -> None:
    if call.arguments:
        raise _error(108)


def _suffix(call: Call, largest: int) -> int:
    number = call.suffixes[-1]
    if not 1 <= number <= largest:
        raise _error(114)
    return number


_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:E[+-]?\d{1,3})?)\s*([A-Z]*)\Z")
_REGISTER = re.compile(r"#([HQB])([0-9A-F]{1,16})\Z")


def _number(text: str, units: dict[str, float]) -> float:
    """Return a number with one of `units` behind it ("" for none)."""
    match = _NUMBER.match(text.upper())
    if match is None:
        raise _error(141)
    if match[2] not in units:
        raise _error(102)
    return float(match[1]) * units[match[2]]


def _integer(text: str, lowest: int, highest: int) -> int:
    register = _REGISTER.match(text.upper())
    if register is not None:
        try:
            value = float(int(register[2], {"H": 16, "Q": 8, "B": 2}[register[1]]))
        except ValueError as error:
            raise _error(141) from error
    else:
        value = _number(text, {"": 1.0})
    if not lowest <= value <= highest:
        raise _error(222)
    return round(value)


def _boolean(text: str) -> bool:
    word = text.upper()
    if word in {"ON", "OFF"}:
        return word == "ON"
    return round(_number(text, {"": 1.0})) != 0


def _range(text: str, ranges: tuple[float, ...]) -> float:
    """Return a range; only a bare number, because a real WT3000 refuses a unit here."""
    wanted = _number(text, {"": 1.0})
    for each in ranges:
        if math.isclose(each, wanted):
            return each
    raise _error(222)


def _choice(text: str, words: tuple[str, ...]) -> str:
    """Return the word of `words` that `text` names in its short or long form."""
    typed = text.upper()
    for word in words:
        short = "".join(letter for letter in word if not letter.islower())
        if len(typed) >= len(short) and word.upper().startswith(typed):
            return word
    raise _error(141)


def _spelled(long_form: str, words: tuple[str, ...]) -> str:
    """Return the spelling of a long form that shows its short form."""
    return next((word for word in words if word.upper() == long_form), long_form)


def _item(arguments: tuple[str, ...]) -> Item:
    """Return `function[,element[,order]]` in long forms."""
    if arguments[0].upper() == "NONE":
        if len(arguments) > 1:
            raise _error(108)
        return _NONE
    if len(arguments) > 3:
        raise _error(108)
    function = _choice(arguments[0], _FUNCTION_WORDS).upper()
    element = _choice(arguments[1], _ELEMENT_WORDS).upper() if len(arguments) > 1 else "1"
    order = ""
    if len(arguments) > 2:
        typed = arguments[2].upper()
        order = str(_integer(typed, 0, 100)) if typed.isdigit() else _choice(typed, ("TOTal", "DC")).upper()
    return function, element, order


def _utc_from(arguments: tuple[str, ...]) -> float:
    """Return UTC seconds for year, month, day, hour, minute, second."""
    if len(arguments) != 6:
        raise _error(109 if len(arguments) < 6 else 108)
    limits = ((2000, 2099), (1, 12), (1, 31), (0, 23), (0, 59), (0, 59))
    parts = [_integer(text, low, high) for text, (low, high) in zip(arguments, limits, strict=True)]
    return float(calendar.timegm((*parts, 0, 0, 0)))


def _attempt(action: Callable[[], None]) -> None:
    try:
        action()
    except AnalyzerRefused as refused:
        raise _error(221) from refused
