"""The typed edge to Robot Framework, whose package has no types: decorator, log, variables.

Nothing here needs a running plan: outside of one, variables are absent and the log goes nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from robot.api import logger
from robot.api.deco import keyword as robot_keyword
from robot.libraries.BuiltIn import BuiltIn, RobotNotRunningError

_P = ParamSpec("_P")
_R = TypeVar("_R")


def keyword(*tags: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Mark a method as a keyword, with its tags."""
    return cast("Callable[[Callable[_P, _R]], Callable[_P, _R]]", robot_keyword(tags=tags))


def is_keyword(candidate: object) -> bool:
    """Whether `keyword` marked it."""
    return hasattr(candidate, "robot_name")


def say(sentence: str) -> None:
    """Write a line into Robot's log."""
    logger.info(sentence)


def variable(name: str) -> str | None:
    """The value of a plan's variable as text; None when it is not set, or is empty."""
    try:
        value = BuiltIn().get_variable_value("${" + name + "}")
    except RobotNotRunningError:
        return None
    return str(value) if value not in {None, ""} else None
