"""The station file: what may stand in it, how it is read and judged, and what opening it would do."""

from bench.station.plan import PlanLine, plan_text
from bench.station.station import (
    Station,
    default_keys_folder,
    load_station,
    parse_station,
    plan_document,
    station_schema,
)

__all__ = [
    "PlanLine",
    "Station",
    "default_keys_folder",
    "load_station",
    "parse_station",
    "plan_document",
    "plan_text",
    "station_schema",
]
