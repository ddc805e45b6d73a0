"""A socket is judged by what it should have told; a gap ends when everything was read again."""

from services.ingester.gaps import LaneGap
from services.ingester.watch import Limits, Watch
from shared.domain.ids import TxHash, Wallet
from shared.domain.messages import FeedChanged
from shared.domain.units import NS_PER_S

S = NS_PER_S
T0 = 1_800_000_000 * S
LIMITS = Limits(silence_ns=15 * S, grace_ns=6 * S, misses_max=3, late_ns=30 * S, steady_ns=60 * S)
ANN, BEN = Wallet("0x" + "0a" * 20), Wallet("0x" + "0b" * 20)


def tx(number: int) -> TxHash:
    return TxHash(f"0x{number:064x}")


def a_watch() -> Watch:
    return Watch(LIMITS, now_ns=T0)


def talks(watch: Watch, until_s: int, *, from_s: int = 0, lag_s: int = 2) -> None:
    """Let the socket tell a trade of a stranger every second."""
    for second in range(from_s, until_s + 1):
        now_ns = T0 + second * S
        watch.heard(tx(10_000 + second), venue_ns=now_ns - lag_s * S, now_ns=now_ns)


def reason(watch: Watch, at_s: float) -> str:
    verdict = watch.verdict(now_ns=T0 + int(at_s * S))
    return verdict.reason if verdict else ""


def test_a_socket_that_talks_is_believed() -> None:
    watch = a_watch()
    talks(watch, 300)
    assert reason(watch, 300) == ""
    assert watch.heard_ns == T0 + 300 * S


def test_silence_is_a_verdict_after_the_bound_and_not_before() -> None:
    watch = a_watch()
    talks(watch, 10)
    assert reason(watch, 25) == ""
    verdict = watch.verdict(now_ns=T0 + 26 * S)
    assert verdict is not None
    assert (verdict.reason, verdict.since_ns) == ("no data for 16.0 s", T0 + 10 * S)


def test_a_connection_that_never_says_anything_is_silent_too() -> None:
    watch = a_watch()
    assert reason(watch, 15) == ""
    assert reason(watch, 16) == "no data for 16.0 s"
    watch.opened(now_ns=T0 + 20 * S)
    assert reason(watch, 30) == ""


def test_three_trades_in_a_row_shown_elsewhere_only_are_a_verdict_while_strangers_talk() -> None:
    watch = a_watch()
    talks(watch, 30)
    for number in (1, 2, 3):
        watch.owed(tx(number), venue_ns=T0 + 20 * S, now_ns=T0 + (20 + number) * S)
    assert reason(watch, 28) == ""  # the third is not late yet
    verdict = watch.verdict(now_ns=T0 + 29 * S)
    assert verdict is not None
    assert verdict.reason == "3 trades in a row were shown elsewhere and not told"
    assert verdict.since_ns == T0 + 21 * S


def test_a_trade_told_after_all_forgives_the_misses_before_it() -> None:
    watch = a_watch()
    talks(watch, 40)
    for number in (1, 2):
        watch.owed(tx(number), venue_ns=T0 + 20 * S, now_ns=T0 + 21 * S)
    assert reason(watch, 30) == ""
    watch.owed(tx(3), venue_ns=T0 + 30 * S, now_ns=T0 + 31 * S)
    watch.heard(tx(3), venue_ns=T0 + 30 * S, now_ns=T0 + 32 * S)
    watch.owed(tx(4), venue_ns=T0 + 32 * S, now_ns=T0 + 33 * S)
    assert reason(watch, 40) == ""


def test_what_was_told_before_another_source_showed_it_is_not_owed() -> None:
    watch = a_watch()
    talks(watch, 30)
    for second in (20, 21, 22):
        watch.owed(tx(10_000 + second), venue_ns=T0 + second * S, now_ns=T0 + 25 * S)
    assert reason(watch, 40) == ""


def test_a_trade_from_before_the_connection_is_not_owed() -> None:
    watch = a_watch()
    talks(watch, 30)
    for number in (1, 2, 3):
        watch.owed(tx(number), venue_ns=T0 + 5 * S, now_ns=T0 + 10 * S)
    assert reason(watch, 31) == ""


def test_a_repeated_showing_does_not_put_off_the_verdict() -> None:
    watch = a_watch()
    talks(watch, 40)
    for second in range(20, 30):
        for number in (1, 2, 3):
            watch.owed(tx(number), venue_ns=T0 + 18 * S, now_ns=T0 + second * S)
    assert reason(watch, 26) != ""


def test_old_news_is_a_verdict_once_the_connection_is_steady() -> None:
    watch = a_watch()
    talks(watch, 60, lag_s=1_800)
    assert reason(watch, 60) == ""
    talks(watch, 64, from_s=61, lag_s=1_800)
    assert reason(watch, 64) == "what it tells is 1800 s old"


# --- gaps -------------------------------------------------------------------------------------


def begun() -> LaneGap:
    gap = LaneGap(3, [ANN, BEN], index_lag_ns=10 * S)
    told = gap.begin("no data for 15 s", from_ns=T0 - 15 * S, now_ns=T0)
    assert told is not None
    assert (told.state, told.from_ns, told.duration_ms) == ("gap", T0 - 15 * S, 15_000)
    return gap


def ended(gap: LaneGap, ann_s: float, ben_s: float, at_s: float) -> FeedChanged | None:
    read_ns = {ANN: T0 + int(ann_s * S), BEN: T0 + int(ben_s * S)}
    return gap.end(read_ns, now_ns=T0 + int(at_s * S))


def test_a_gap_ends_when_every_leader_was_read_after_the_stream_came_back() -> None:
    gap = begun()
    assert ended(gap, 100, 100, 100) is None  # the stream is still away
    gap.hears_again(now_ns=T0 + 100 * S)
    assert ended(gap, 110, 109, 111) is None
    told = ended(gap, 110, 110, 112)
    assert told is not None
    assert (told.state, told.duration_ms, told.from_ns) == ("resynced", 112_000, T0 - 15 * S)
    assert ended(gap, 200, 200, 200) is None


def test_a_second_trouble_makes_the_gap_longer_and_is_not_another_one() -> None:
    gap = begun()
    gap.hears_again(now_ns=T0 + 10 * S)
    assert gap.begin("lost", from_ns=T0 + 11 * S, now_ns=T0 + 12 * S) is None
    assert ended(gap, 30, 30, 30) is None
    gap.hears_again(now_ns=T0 + 40 * S)
    assert ended(gap, 49, 60, 60) is None
    told = ended(gap, 50, 60, 60)
    assert told is not None
    assert told.from_ns == T0 - 15 * S


def test_a_lane_without_leaders_has_no_gaps() -> None:
    assert LaneGap(3, [], index_lag_ns=S).begin("lost", from_ns=T0, now_ns=T0) is None


def test_a_leader_who_was_never_read_keeps_the_gap_open() -> None:
    gap = begun()
    gap.hears_again(now_ns=T0)
    assert gap.end({ANN: T0 + 60 * S}, now_ns=T0 + 60 * S) is None
