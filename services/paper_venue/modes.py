"""When the venue takes no orders, or only some: the restricted modes (protocol.md 1.10)."""

from typing import Final, Literal

from services.paper_venue.state import Refused
from services.paper_venue.wire import Json
from shared.domain.units import NS_PER_S

Mode = Literal["normal", "restarting", "post-only", "cancel-only", "disabled"]
Wish = Literal["order", "post-only order", "cancel"]

_TEXTS: Final[dict[Mode, str]] = {
    "normal": "",
    "restarting": "matching engine is restarting",
    "post-only": "post-only mode: only post-only orders and cancels are allowed",
    "cancel-only": (
        "Trading is currently cancel-only. New orders are not accepted, but cancels are allowed."
    ),
    "disabled": "trading is disabled",
}
_ALLOWED: Final[dict[Mode, tuple[Wish, ...]]] = {
    "normal": ("order", "post-only order", "cancel"),
    "restarting": (),
    "post-only": ("post-only order", "cancel"),
    "cancel-only": ("cancel",),
    "disabled": (),
}


class Restricted(Refused):
    """The venue does not do this now; it says so with headers and a body of its own."""

    def __init__(self, body: Json, status: int, headers: dict[str, str]) -> None:
        super().__init__(str(body["error"]), status)
        self.body, self.headers = body, headers


class Modes:
    """The mode the operator set, and how long it holds; a restart ends in post-only."""

    def __init__(self, post_only_after_restart_s: int) -> None:
        self._post_only_ns = post_only_after_restart_s * NS_PER_S
        self._set: Mode = "normal"
        self._until_ns: int | None = None  # None: until the operator says otherwise

    def set(self, mode: Mode, until_ns: int | None) -> None:
        self._set, self._until_ns = mode, until_ns

    def present(self, now_ns: int) -> tuple[Mode, int | None]:
        """Return the mode in force, and when it ends where that is known."""
        until_ns = self._until_ns
        if until_ns is None or now_ns < until_ns:
            return self._set, until_ns
        if self._set == "restarting":
            until_ns += self._post_only_ns
            if now_ns < until_ns:
                return "post-only", until_ns
        return "normal", None

    def check(self, wish: Wish, now_ns: int) -> None:
        """Refuse what the mode in force does not allow."""
        mode, until_ns = self.present(now_ns)
        if wish in _ALLOWED[mode]:
            return
        body: Json = {"error": _TEXTS[mode]}
        headers = {}
        left_s = None if until_ns is None else -(-(until_ns - now_ns) // NS_PER_S)
        if left_s is not None and mode in ("restarting", "post-only"):
            headers["Retry-After"] = str(left_s)
        if mode == "post-only":
            body["code"] = "post_only_mode"
            if left_s is not None:
                body["retry_after_seconds"] = left_s
        raise Restricted(body, 425 if mode == "restarting" else 503, headers)
