"""What can become of an order: one table of states and events, for code, tests and docs alike.

A state says what is proved of an order, and what was proved stays proved: every arrow leads on,
so words that come late, twice or out of order end in the same state. How much of an order was
executed is no state: it is the sum of its fills.
"""

import sys
from collections.abc import Mapping
from typing import Final, Literal, get_args

Phase = Literal[
    "prepared", "unknown", "accepted", "delayed", "resting", "matched", "closed"
]  # from the least that is proved to the most
Event = Literal[
    "lost",
    "refused",
    "resent",
    "duplicated",
    "delayed",
    "live",
    "matched",
    "filled",
    "cancelled",
    "surrendered",
    "never_placed",
    "forgotten",
    "completed",
    "abandoned",
    "given_up",
]

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
EVENTS: Final[tuple[Event, ...]] = get_args(Event)
_Row = Mapping[Event, Phase]

_ENDS: Final[_Row] = {"completed": "closed", "abandoned": "closed", "given_up": "closed"}
_BEFORE_PROOF: Final[_Row] = {
    "duplicated": "accepted",
    "delayed": "delayed",
    "live": "resting",
    "matched": "matched",
    "filled": "matched",
    "never_placed": "closed",
    **_ENDS,
}
TABLE: Final[Mapping[Phase, _Row]] = {
    "prepared": {
        **_BEFORE_PROOF,
        "lost": "unknown",
        "refused": "closed",
        "cancelled": "prepared",
        "surrendered": "prepared",
    },
    "unknown": {
        **_BEFORE_PROOF,
        "resent": "unknown",
        "cancelled": "unknown",
        "surrendered": "unknown",
    },
    "accepted": {
        "duplicated": "accepted",
        "delayed": "delayed",
        "live": "resting",
        "matched": "matched",
        "filled": "matched",
        "cancelled": "accepted",
        "surrendered": "accepted",
        **_ENDS,
    },
    "delayed": {
        "duplicated": "delayed",
        "delayed": "delayed",
        "live": "resting",
        "matched": "matched",
        "filled": "matched",
        "cancelled": "delayed",
        "surrendered": "delayed",
        **_ENDS,
    },
    "resting": {
        "duplicated": "resting",
        "delayed": "resting",
        "live": "resting",
        "matched": "matched",
        "filled": "matched",
        "cancelled": "resting",
        "surrendered": "resting",
        **_ENDS,
    },
    "matched": {
        "duplicated": "matched",
        "delayed": "matched",
        "live": "matched",
        "matched": "matched",
        "filled": "matched",
        "cancelled": "matched",
        "surrendered": "matched",
        "forgotten": "closed",
        **_ENDS,
    },
    "closed": {"filled": "closed"},
}

STATES_MEAN: Final[Mapping[Phase, str]] = {
    "prepared": "It is on record with its hash. Whether it was sent yet, nobody else can know: a "
    "crash before the POST looks like one after it, so there is no state between.",
    "unknown": "It was sent, or may have been, and no usable answer came. The venue is asked for "
    "its hash; exposure counts it whole.",
    "accepted": "The venue has had it (it called a second copy a duplicate); what became of it is "
    "not known yet.",
    "delayed": "The venue took it and holds it back before matching. It is neither filled nor "
    "refused, and cannot be cancelled.",
    "resting": "It stands in the book (`live`, or `unmatched` after a delay).",
    "matched": "Some of it was executed, at least, by the venue's word or by a fill that is "
    "booked. What is left may still rest; not all fills may be booked yet.",
    "closed": "Nothing more can come of it, and every execution the venue counts is booked. A "
    "fill that comes all the same is booked too.",
}
EVENTS_MEAN: Final[Mapping[Event, str]] = {
    "lost": "No answer, one that cannot be read, or one that proves nothing: a time-out, 425, "
    "5xx, a 429 without `Poly-RateLimit-*`; or a restart before the answer was on record.",
    "refused": "A definite no (400 to 404, or a 429 of the signer's own limit) to the first "
    "sending, and the venue, asked by hash and for trades, knows of no execution. A no to a "
    "later sending says nothing of the first and moves nothing.",
    "resent": "The same bytes are sent again: the outcome is unknown, the time to live has not "
    "passed, and the venue, asked for the hash and then for trades, knows neither.",
    "duplicated": "The venue answered `Duplicated`: an earlier sending arrived. Not that it is "
    "unfilled.",
    "delayed": "The answer, or a look-up, says `delayed`.",
    "live": "The answer says `live` or `unmatched`, or a look-up says it is open.",
    "matched": "The answer says `matched`; or a look-up shows more matched than is booked.",
    "filled": "An execution is booked, told by the user stream or by REST.",
    "cancelled": "It rests longer than was approved, or the book has moved on, or risk wants it no "
    "more: the venue is asked to cancel it, whenever a look shows it open. Nothing else changes: "
    "until the venue's numbers say that it has ended, it may fill.",
    "surrendered": "Patience is over: the order's end was asked for long past its time to live. "
    "The operator is told what was asked, how often, and the last answer. Nothing else changes: "
    "the order keeps its state, counts whole, and is asked for at a slower pace.",
    "never_placed": "Past its time to live, and past the time a request can be under way, the "
    "venue was asked several times and knew neither the hash nor a trade of it.",
    "forgotten": "The same of an order with fills: no more can come.",
    "completed": "A look-up says it has ended, and as many shares as it counts matched are booked.",
    "abandoned": "A day after it was surrendered it is followed no longer.",
    "given_up": "The operator looked at the venue and says that a surrendered order has ended "
    "(`driftless end-order`).",
}


def after(phase: Phase, event: Event) -> Phase | None:
    """Return the state an event leads to, or None where it says nothing of such an order."""
    return TABLE[phase].get(event)


def proves(phase: Phase, event: Event) -> bool:
    """Tell whether an event proves more of an order than is on record."""
    return after(phase, event) not in (None, phase)


def diagram() -> str:
    """Return the table as a mermaid state diagram; events between the same two states share it."""
    lines = ["stateDiagram-v2", "    [*] --> prepared"]
    for phase in PHASES:
        arrows: dict[Phase, list[Event]] = {}
        for event in EVENTS:
            to = after(phase, event)
            if to is not None:
                arrows.setdefault(to, []).append(event)
        reached = [to for to in PHASES if to in arrows]
        lines += [f"    {phase} --> {to}: {', '.join(arrows[to])}" for to in reached]
    return "\n".join([*lines, "    closed --> [*]"])


def grid() -> str:
    """Return the table as markdown: a line an event, a column a state."""
    head = "| event | " + " | ".join(PHASES) + " |"
    lines = [head, "|---" * (len(PHASES) + 1) + "|"]
    for event in EVENTS:
        cells = [after(phase, event) or "" for phase in PHASES]
        same = ["stays" if to == at else to for to, at in zip(cells, PHASES, strict=True)]
        lines.append(f"| `{event}` | " + " | ".join(same) + " |")
    return "\n".join(lines)


def glossary() -> str:
    """Return what each state and each event means, as markdown tables."""
    states = [f"| `{phase}` | {STATES_MEAN[phase]} |" for phase in PHASES]
    events = [f"| `{event}` | {EVENTS_MEAN[event]} |" for event in EVENTS]
    return "\n".join(
        ["| state | means |", "|---|---|", *states, "", "| event | means |", "|---|---|", *events]
    )


if __name__ == "__main__":
    sys.stdout.write("\n\n".join([f"```mermaid\n{diagram()}\n```", grid(), glossary(), ""]))
