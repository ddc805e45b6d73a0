"""One line of `driftless check`."""

from typing import Literal

import msgspec

Verdict = Literal["ok", "warn", "fail", "skip"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at, and what to do where it is not right."""

    name: str
    outcome: Verdict
    found: str
    cure: str = ""
