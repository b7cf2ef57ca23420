"""For all tests: hypothesis judges what is right, not how fast a shared machine is, and CI repeats itself."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("bench", deadline=None, max_examples=60, derandomize=os.environ.get("CI") == "true")
settings.load_profile("bench")
