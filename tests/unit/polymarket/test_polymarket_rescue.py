"""A stuck token is rescued step by step, each for a bounded time, and goes back when it flows."""

from shared.domain.ids import TokenId
from shared.polymarket.rescue import Bounds, Move, Recovered, Rescue

YES, NO = TokenId("71"), TokenId("72")
S = 10**9
BOUNDS = Bounds()


def moves(rescue: Rescue, second: float) -> list[tuple[str, str]]:
    return [(move.token, move.step) for move in rescue.poll(now_ns=round(second * S))]


def test_the_steps_come_one_after_the_other_and_the_last_repeats() -> None:
    rescue = Rescue()
    assert rescue.stuck(YES, home=1, now_ns=0) == [Move(YES, "resubscribe")]
    assert rescue.stuck(YES, home=1, now_ns=1) == []
    told = [(second, *move) for second in range(160) for move in moves(rescue, second)]
    assert told == [
        (5, YES, "reopen"),
        (15, YES, "parallel"),
        (25, YES, "polling"),
        (85, YES, "parallel"),
        (95, YES, "polling"),
        (155, YES, "parallel"),
    ]
    assert rescue.counts == {"resubscribe": 1, "reopen": 1, "parallel": 3, "polling": 2}


def test_a_rescue_ends_wherever_the_token_flows() -> None:
    rescue = Rescue()
    assert rescue.flowing(YES, now_ns=0) == []
    rescue.stuck(YES, home=1, now_ns=0)
    moves(rescue, 5)
    assert rescue.step(YES) == "reopen"
    assert rescue.flowing(YES, now_ns=7 * S) == [Recovered(YES, "reopen", 7 * S)]
    assert (rescue.step(YES), moves(rescue, 999)) == (None, [])
    assert rescue.stuck(YES, home=1, now_ns=8 * S) == [Move(YES, "resubscribe")]


def test_a_connection_is_reopened_once_for_all_its_tokens_and_not_soon_again() -> None:
    rescue = Rescue()
    rescue.stuck(YES, home=1, now_ns=0)
    rescue.stuck(NO, home=1, now_ns=2 * S)
    assert moves(rescue, 5) == [(YES, "reopen")]
    assert moves(rescue, 7) == []  # it was reopened for its neighbour just now
    assert rescue.step(NO) == "reopen"
    assert moves(rescue, 15) == [(YES, "parallel"), (NO, "parallel")]
    rescue.flowing(NO, now_ns=16 * S)
    rescue.stuck(NO, home=1, now_ns=40 * S)
    assert moves(rescue, 45) == [(YES, "polling"), (NO, "parallel")]
    other = TokenId("73")
    rescue.stuck(other, home=2, now_ns=45 * S)
    assert moves(rescue, 50) == [(other, "reopen")]  # of another connection
    rescue.stuck(TokenId("74"), home=1, now_ns=60 * S)
    assert ("74", "reopen") in moves(rescue, 65)


def test_what_is_polled_is_counted_and_forgotten() -> None:
    rescue = Rescue()
    rescue.stuck(YES, home=1, now_ns=0)
    for second in (5, 15, 25):
        moves(rescue, second)
    assert rescue.polled == 1
    rescue.forget(YES)
    assert (rescue.polled, moves(rescue, 999)) == (0, [])
