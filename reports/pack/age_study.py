"""What the pictures and tables of an aging study ask its document for, by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reports.pack.documents import Document, Floats, grid, part, parts, text, texts, value, values
from reports.page import NOTHING, figure_text, spoken


class Study:
    """An aging document (`v2gbench.age/1`), looked at by what a report asks; what it lacks comes back empty."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.laws = texts(document, "laws")
        self.uses = texts(document, "uses")
        self.pack = text(document, "pack", "a pack without a name")
        self.years = value(document, "years") or 0.0
        self.duration = f"{self.years:g} year" if self.years == 1.0 else f"{self.years:g} years"
        scenario = part(document, "scenario")
        self.title = text(scenario, "title") or text(scenario, "name", "a scenario without a name")
        service = part(document, "v2g")
        self.has_v2g = bool(service)
        self.currency = text(service, "currency", "EUR")
        self.cents = f"{self.currency} cents"  # of which a hundred make one, as in the scenario's own prices
        self.wear = {text(each, "law"): each for each in parts(service, "wear")}
        self.counterfactuals = parts(part(document, "attribution"), "counterfactual")

    @property
    def chemistry(self) -> str:
        """The chemistry of the pack: that of the laws which the document holds to be of the same one."""
        same = part(self.document, "v2g", "spread_same_chemistry")
        return text(self.note(text(same, "low_law") or self.laws[0]), "chemistry")

    @property
    def spread(self) -> tuple[float, float]:
        """V2G wear in points, from the mildest law to the harshest."""
        found = [at for each in self.wear.values() if (at := value(each, "shapley_points")) is not None]
        return (min(found), max(found)) if found else (0.0, 0.0)

    @property
    def spread_same(self) -> tuple[float, float] | None:
        """The same for laws of the pack's chemistry; None where the document does not say."""
        same = part(self.document, "v2g", "spread_same_chemistry")
        low, high = value(same, "low_points"), value(same, "high_points")
        return None if low is None or high is None else (low, high)

    def label(self, law: str) -> str:
        """The name of a law for a picture: the one that ages the pack, and another chemistry, are said."""
        if law == self.laws[0]:
            return f"{law}, ages the pack"
        chemistry = text(self.note(law), "chemistry")
        if chemistry and self.chemistry and chemistry != self.chemistry:
            return f"{law} ({chemistry.partition('/')[0]})"
        return law

    def note(self, law: str) -> Document:
        """What the document says about a law."""
        return part(self.document, "law_notes", law)

    def years_of(self, life: str) -> tuple[Document, ...]:
        """The ends of the years of a life, in order."""
        return parts(part(self.document, life), "years")

    def last_year(self, life: str) -> Document:
        """The end of the last year of a life."""
        years = self.years_of(life)
        return years[-1] if years else {}

    def capacity(self, life: str, law: str) -> float | None:
        """Capacity at the end of a life by one law, in percent of the new one."""
        loss = value(part(self.last_year(life), "laws", law), "loss_points")
        return None if loss is None else 100.0 - loss

    def months(self, life: str) -> tuple[Floats, Floats]:
        """Years and capacity in percent of a life, month by month, by the law that aged the pack."""
        months = parts(part(self.document, life), "months")
        days = values({"days": [each.get("day") for each in months]}, "days")
        return days / 365.0, values({"soh": [each.get("soh_percent") for each in months]}, "soh")

    def resistance(self, life: str) -> tuple[Floats, Floats]:
        """Years and resistance in percent of the new one: months where the document has them, ends of years else."""
        months = parts(part(self.document, life), "months")
        found = [(value(each, "day"), value(each, "resistance_percent")) for each in months]
        known = [(day / 365.0, percent) for day, percent in found if day is not None and percent is not None]
        if not known:
            ends = [(value(each, "year"), value(each, "resistance_percent")) for each in self.years_of(life)]
            known = [(year, percent) for year, percent in ends if year is not None and percent is not None]
        return np.array([year for year, _ in known]), np.array([percent for _, percent in known])

    def capacity_by_law(self, life: str, law: str) -> tuple[Floats, Floats]:
        """Years and capacity in percent by one law: ends of years, from the first day's state of health on."""
        years, capacities = [], []
        _, own = self.months(life)
        if len(own):
            years.append(0.0)
            capacities.append(float(own[0]))
        for point in self.years_of(life):
            at, loss = value(point, "year"), value(part(point, "laws", law), "loss_points")
            if at is not None and loss is not None:
                years.append(at)
                capacities.append(100.0 - loss)
        return np.array(years), np.array(capacities)

    def outlooks(self, life: str) -> Mapping[str, Document]:
        """What becomes of the warranty, by law."""
        return {text(each, "law"): each for each in parts(part(self.document, "warranty"), life)}

    def live(self, law: str, use: str) -> float | None:
        """The live account of a use, 0 where nothing was booked on it; rapid charging has a longer name there."""
        causes = part(self.document, "attribution", "live_points", law)
        if not causes:
            return None
        return value(causes, use if use in causes else f"{use}_charging") or 0.0

    def energies(self, life: str) -> tuple[Document, ...]:
        """What each use moved."""
        return parts(part(self.document, life), "energies")

    def cycles_per_year(self, life: str) -> dict[str, float]:
        """Full cycles a year by use: the life's cycles, shared by the ampere-hours that each use took out."""
        taken = {text(each, "use"): value(each, "discharged_ah") or 0.0 for each in self.energies(life)}
        total, cycles = sum(taken.values()), value(self.last_year(life), "efc")
        if cycles is None or total <= 0.0 or self.years <= 0.0:
            return {}
        return {use: cycles * each / total / self.years for use, each in taken.items()}

    def weeks(self, life: str) -> dict[str, Document]:
        """The sample weeks of a life by name."""
        return {text(each, "name"): each for each in parts(part(self.document, "series", life), "weeks")}

    def hours(self, life: str) -> tuple[Floats, Floats, Floats]:
        """Edges of charge (n + 1) and of temperature (m + 1), and hours (n, m); empty where there are none."""
        found = part(self.document, "series", life, "hours")
        soc, temperature, hours = values(found, "soc_edges"), values(found, "temperature_edges_c"), grid(found, "hours")
        if hours.shape != (len(soc) - 1, len(temperature) - 1):
            return np.empty(0), np.empty(0), np.empty((0, 0))
        return soc, temperature, hours


def use_name(use: str) -> str:
    """A use or a cause as a report says it."""
    return {"v2g": "V2G", "rapid": "rapid charging"}.get(use, spoken(use))


def money_text(micro: object, decimals: int) -> str:
    """An amount in millionths as a decimal number, without its currency; a dash where there is none."""
    if isinstance(micro, bool) or not isinstance(micro, int):
        return NOTHING
    return figure_text(micro / 1_000_000, decimals)
