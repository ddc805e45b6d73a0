"""How synthetic participants behave: every number with its unit and the statistic it follows.

Statistics are of recorded activity: fills of a pair builder (137,383 fills), two sweepers (1,173),
market-wide trades (9,824 rows of 2,553 wallets; 1,500 of 765), and one-second, twenty-level books
of eighteen 15-minute markets between 0.10 and 0.90 (12,000 steps).
"""

from typing import Final, Literal, get_args

import msgspec

Kind = Literal[
    "splitter",
    "flipper",
    "pair-builder",
    "scalper",
    "maker",
    "set-trader",
    "converter",
    "whale",
    "sleeper",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
CLASSIC: Final[tuple[Kind, ...]] = ("splitter", "flipper", "pair-builder")


class Habit(msgspec.Struct, frozen=True, kw_only=True):
    """How a leader trades. Times in milliseconds, money in micro-dollars."""

    decision_gap_ms: tuple[int, int]  # from the end of one decision to the next
    notional: tuple[int, int]  # of one decision, log-uniform
    fills: tuple[int, int]  # slices of one decision
    slice_gap_ms: int  # mean time between slices
    same_moment_percent: int  # slices sent together with the one before
    back_after_ms: tuple[int, int] = (0, 0)  # until a flip is taken back
    paired_percent: int = 0  # of the first outcome's shares, bought of the other too


HABITS: Final[dict[Kind, Habit]] = {
    # Sweepers: median fill $10.7, 99 % under $7,450; 65 % of fills in bursts of two or more within
    # 5 s, 99 % of bursts up to 20 fills; 32 % of consecutive fills in the same second.
    "splitter": Habit(
        decision_gap_ms=(8_000, 45_000),
        notional=(40_000_000, 900_000_000),
        fills=(2, 20),
        slice_gap_ms=700,
        same_moment_percent=32,
    ),
    # Fed set: 14.3 % of fills reverse the one before within 60 s, mostly small round trips.
    "flipper": Habit(
        decision_gap_ms=(10_000, 60_000),
        notional=(7_000_000, 120_000_000),
        fills=(1, 3),
        slice_gap_ms=1_500,
        same_moment_percent=39,
        back_after_ms=(5_000, 60_000),
    ),
    # gabagool22: median fill $5.66, 99 % under $78; 73 % of fills share a second with another, up
    # to 37 in one second on one outcome; 43 % of shares paired within 5 s, 92 % within 60 s.
    "pair-builder": Habit(
        decision_gap_ms=(2_000, 12_000),
        notional=(20_000_000, 400_000_000),
        fills=(4, 37),
        slice_gap_ms=400,
        same_moment_percent=73,
        paired_percent=92,
    ),
    # Small bots: median fill $2.76, 99 % under $45, 57 % of fills in bursts within 5 s; netting
    # cancels 12.3 % of the Fed set's notional within a minute: round trips of seconds.
    "scalper": Habit(
        decision_gap_ms=(500, 4_000),
        notional=(1_500_000, 45_000_000),
        fills=(1, 2),
        slice_gap_ms=300,
        same_moment_percent=51,
        back_after_ms=(2_000, 10_000),
    ),
    # Complete sets: a decision splits dollars and sells one side, or merges what is paired.
    "set-trader": Habit(
        decision_gap_ms=(15_000, 90_000),
        notional=(20_000_000, 400_000_000),
        fills=(2, 9),
        slice_gap_ms=700,
        same_moment_percent=39,
    ),
    # Buys NO of two markets of a neg-risk group, converts them, and sells the YES it gets.
    "converter": Habit(
        decision_gap_ms=(15_000, 90_000),
        notional=(20_000_000, 200_000_000),
        fills=(1, 5),
        slice_gap_ms=700,
        same_moment_percent=39,
    ),
    # Sweepers' tail: 90 % of fills under $1,499, 99 % under $7,450, the largest $23,976.
    "whale": Habit(
        decision_gap_ms=(180_000, 1_200_000),
        notional=(2_000_000_000, 50_000_000_000),
        fills=(3, 27),
        slice_gap_ms=2_000,
        same_moment_percent=40,
    ),
    # Market-wide: 63 % of wallets have a single fill in three hours; median fill $7, 1 % over $800.
    "sleeper": Habit(
        decision_gap_ms=(7_200_000, 28_800_000),
        notional=(5_000_000, 800_000_000),
        fills=(1, 4),
        slice_gap_ms=900,
        same_moment_percent=19,
    ),
    # Quotes both sides at the best prices and follows them. A market's best price stays for 3 s
    # on average (it moves in 36 % of seconds); sizes are those of the best level's lower half.
    "maker": Habit(
        decision_gap_ms=(500, 2_500),
        notional=(10_000_000, 60_000_000),
        fills=(1, 1),
        slice_gap_ms=0,
        same_moment_percent=0,
    ),
}
MAKER_MARKETS: Final = 3  # that one maker quotes at the same time
MAKER_STOCK: Final = 10  # quotes' worth of complete sets that he splits, and merges beyond

# A large crowd. Market-wide the most active per cent of wallets has 36 % of the rows, the most
# active tenth 65 %, and 63 % have a single one in three hours: a Pareto law of exponent 1.25.
ACTIVITY_EXPONENT: Final = 1.25
ACTIVITY_MAX: Final = 400.0  # times the least active one's: 580 of 9,824 rows are one wallet's
CROWD_GAP_MS: Final = (300_000, 900_000)  # between decisions of the least active
# Kinds per thousand wallets: 16 % of wallets flip; the rest is our choice.
MIX: Final[dict[Kind, int]] = {
    "sleeper": 515,
    "splitter": 200,
    "flipper": 160,
    "scalper": 50,
    "set-trader": 40,
    "whale": 15,
    "pair-builder": 10,
    "maker": 5,
    "converter": 5,
}


class Liquidity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The books of synthetic markets. Sizes in whole shares, probabilities in log-odds."""

    # Log-odds' standard deviation a square root of a second: 0.073 to 0.076 over 1 to 60 s, jumps
    # within. For a market of 15 minutes; longer ones move so much over their whole life.
    volatility_per_sqrt_s: float = 0.069
    volatility_life_s: float = 900.0
    move_gap_s: float = 2.2  # mean time between moves: the mid stays in 64 % of seconds
    jump_gap_s: float = 300.0  # mean time between jumps: 0.4 % of seconds move beyond 0.365
    jump_size: float = 0.4  # standard deviation of a jump
    spread_weights: tuple[int, ...] = (976, 18, 4, 2)  # of 1, 2, 3, 4 ticks, per thousand
    # Median shares at each level from the best; deeper levels have the last one's.
    depth: tuple[int, ...] = (138, 270, 547, 829, 1_061, 1_208, 1_211, 724, 443, 318, 232, 195)
    depth_deviation: float = 1.1  # of a level's log size: 0.7 deep, 1.3 at the best
    levels: int = 20  # a side; 99 % of neighbours are one tick apart
    requote_s: float = 4.0  # mean time until a level that nobody took has a new size
    refill_half_life_s: float = 5.0  # of what was taken: 28 % is back in 1 s, 45 % in 5 s
    ending: float = 0.2  # of a market's life in which it drifts to its end
    end_log_odds: float = 5.0  # where it ends at least: 0.993 or 0.007


def kinds_of(leaders: str) -> tuple[Kind, ...]:
    """Return the kinds that ``none``, ``synthetic`` or ``synthetic:kind,kind`` asks for."""
    word, _, named = leaders.partition(":")
    if word == "none" and not named:
        return ()
    if word == "synthetic" and named in ("", "all"):
        return KINDS if named else CLASSIC
    kinds = tuple(kind for kind in KINDS if kind in named.split(","))
    if word != "synthetic" or len(kinds) != len(named.split(",")):
        known = ", ".join(KINDS)
        raise ValueError(
            f"leaders {leaders!r}: none, synthetic, synthetic:all or synthetic:KIND,KIND of {known}"
        )
    return kinds
