"""Reports of the pack twin, each from its JSON document alone: years of use, a replayed log, a fitted pack.

    write_age_report(document, folder)       `v2gbench age`
    write_replay_report(document, folder)    `v2gbench replay LOG --twin`
    write_fit_report(document, folder)       `v2gbench fit`

All write `report.html` and refuse a document of another schema with a RenderError. What a document lacks is said in its
place: an older or a shorter one still gives a report.
"""

from __future__ import annotations
