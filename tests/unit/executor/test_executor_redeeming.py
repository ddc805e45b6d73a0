"""What markets pay is fetched: asked for once on record, through the official SDK, paid once."""

import asyncio
from typing import Any

import pytest
from polymarket.errors import UserInputError

from services.executor import redemptions
from services.executor.core import decide, evolve
from services.executor.sdk import NotRedeemedError, SdkRedeem, environment_of
from services.executor.state import Due, Policy, Redeemed, State
from shared.domain.ids import ConditionId, OrderHash, TokenId
from shared.domain.messages import (
    Fact,
    PositionClosed,
    PositionCorrected,
    RedemptionEnded,
    RedemptionSent,
)
from shared.domain.units import MICRO, NS_PER_S, Price, Shares, Usd
from shared.polymarket.auth import Account, Credentials
from shared.polymarket.urls import PRODUCTION, VenueUrls
from shared.runtime.config import AccountConfig
from shared.runtime.secrets import Secret, SecretError
from tests.support.eventually import eventually
from tests.support.order_lane import KEY, WALLET, KilledError
from tests.support.reconciled import START_USD, Reconciled

CONDITION = ConditionId("0x" + "c0" * 32)
TOKENS = (TokenId("11"), TokenId("12"))
AFTER_S = 900
POLICY = Policy(
    wallet=WALLET, book_age_ns_max=0, lookup_attempts=1,
    hash_of=lambda _: OrderHash(""), redeem_after_ns=AFTER_S * NS_PER_S,
)  # fmt: skip
OFF = Policy(wallet=WALLET, book_age_ns_max=0, lookup_attempts=1, hash_of=lambda _: OrderHash(""))


class Claims:
    """An executor's state, and what it says as seconds pass."""

    def __init__(self) -> None:
        self.state = State()

    def hold(self, shares: int, at_s: int = 0) -> None:
        self._take(
            PositionCorrected(
                id=f"held {shares}", cause=f"found {shares}", root="r", ts_ns=at_s * NS_PER_S,
                condition=CONDITION, token=TOKENS[0], outcome=0, shares=Shares(shares * MICRO),
                reason="test",
            )
        )  # fmt: skip

    def close(self, pays: float = 1, at_s: int = 0, name: str = "closed") -> None:
        held = self.state.holdings[TOKENS[0]].position.shares
        payouts = (Price(int(pays * MICRO)), Price(int((1 - pays) * MICRO)))
        self._take(
            PositionClosed(
                id=name, cause=f"end {name}", root="root", ts_ns=at_s * NS_PER_S,
                condition=CONDITION, tokens=(TOKENS[0], TokenId("")), payouts=payouts,
                shares=(held, Shares(0)), cost=Usd(0), realised=Usd(0),
            )
        )  # fmt: skip

    def pay(self, at_s: int) -> None:
        """Have the venue show that the shares are gone."""
        claim = self.state.holdings[TOKENS[0]].claim
        self._take(
            PositionCorrected(
                id=f"paid {at_s}", cause=f"drift {at_s}", root="r", ts_ns=at_s * NS_PER_S,
                condition=CONDITION, token=TOKENS[0], outcome=0, shares=Shares(0),
                claim=Shares(-claim), reason="redeemed",
            )
        )  # fmt: skip

    def look(self, at_s: int, policy: Policy = POLICY) -> list[Fact]:
        return self._say(policy, Due(), at_s)

    def end(self, outcome: str, at_s: int, attempt: int = 1) -> list[Fact]:
        told = Redeemed(condition=CONDITION, attempt=attempt, outcome=outcome, tx="0x1")  # type: ignore[arg-type]
        return self._say(POLICY, told, at_s)

    def _say(self, policy: Policy, message: object, at_s: int) -> list[Fact]:
        facts = decide(policy, self.state, message, at_s * NS_PER_S)
        for fact in facts:
            self._take(fact)
        return facts

    def _take(self, fact: Fact) -> None:
        evolve(self.state, fact)


def a_claim(pays: float = 1) -> Claims:
    claims = Claims()
    claims.hold(10)
    claims.close(pays)
    return claims


@pytest.mark.parametrize(("pays", "usd"), [(1, 10), (0.5, 5)])
def test_a_claim_is_asked_for_when_its_time_has_come_and_once(pays: float, usd: int) -> None:
    claims = a_claim(pays)
    assert claims.look(AFTER_S - 1) == []
    (sent,) = claims.look(AFTER_S)
    assert isinstance(sent, RedemptionSent)
    assert (sent.attempt, sent.usd, sent.cause, sent.root) == (1, usd * MICRO, "closed", "root")
    assert claims.look(10 * AFTER_S) == [], "it is under way"


def test_nothing_is_asked_for_without_the_setting_or_where_nothing_is_paid() -> None:
    assert a_claim().look(AFTER_S, OFF) == []
    assert a_claim(0).look(AFTER_S) == []


def test_it_is_asked_for_again_after_twice_as_long_each_time_a_day_at_most() -> None:
    claims, now_s, waits = a_claim(), AFTER_S, []
    for attempt in range(1, 10):
        assert claims.look(now_s)
        (ended,) = claims.end("failed", now_s, attempt)
        assert isinstance(ended, RedemptionEnded)
        waits.append((ended.retry_ns - ended.ts_ns) // NS_PER_S)
        now_s = ended.retry_ns // NS_PER_S
        assert claims.look(now_s - 1) == []
    assert waits == [900, 1800, 3600, 7200, 14400, 28800, 57600, 86400, 86400]


def test_an_attempt_ends_once() -> None:
    claims = a_claim()
    claims.look(AFTER_S)
    assert claims.end("confirmed", AFTER_S, attempt=2) == [], "of another attempt"
    assert len(claims.end("confirmed", AFTER_S)) == 1
    assert claims.end("confirmed", AFTER_S) == []


def test_what_was_paid_is_not_asked_for_again() -> None:
    claims = a_claim()
    claims.look(AFTER_S)
    claims.end("confirmed", AFTER_S)
    claims.pay(AFTER_S + 5)
    assert claims.state.redemptions == {}
    assert claims.look(1_000 * AFTER_S) == []


def test_what_is_paid_while_it_is_asked_for_still_ends_on_record() -> None:
    claims = a_claim()
    claims.look(AFTER_S)
    claims.pay(AFTER_S + 1)
    assert claims.look(10 * AFTER_S) == []
    assert len(claims.end("confirmed", AFTER_S + 2)) == 1
    assert claims.state.redemptions == {}


def test_shares_that_turn_up_after_the_end_are_the_same_claim() -> None:
    claims = a_claim()
    claims.look(AFTER_S)
    claims.hold(3, AFTER_S)
    claims.close(at_s=AFTER_S, name="closed again")
    assert claims.look(10 * AFTER_S) == [], "still under way"
    assert redemptions.owed(claims.state, CONDITION) == 13 * MICRO
    claims.end("failed", AFTER_S)
    (sent,) = claims.look(2 * AFTER_S)
    assert isinstance(sent, RedemptionSent)
    assert (sent.attempt, sent.usd) == (2, 13 * MICRO)


# --- with the SDK, the venue, its node and the reconciler -------------------------------------


def sdk_of(system: Reconciled) -> SdkRedeem:
    urls = VenueUrls.local(system.url)
    return SdkRedeem(Secret(KEY), None, AccountConfig(wallet=WALLET), urls)


async def win(system: Reconciled) -> None:
    await system.buy()
    await system.resolve("1", "0")
    await eventually(lambda: system.of(PositionClosed), deadline_s=10)


async def paid(system: Reconciled) -> None:
    """Wait until the reconciler has seen the shares gone, and we believe the dollars."""
    assert (await system.found(1))[system.terms.tokens[0]] == ["redeemed"]
    view = system.believed()
    assert (view.cash, view.claims) == (START_USD + 5 * MICRO, 0)


async def test_winnings_become_cash() -> None:
    system = Reconciled()
    system.redeem = sdk_of(system)
    async with system.reconciling():
        await win(system)
        (ended,) = await eventually(lambda: system.of(RedemptionEnded), deadline_s=20)
        assert (ended.outcome, ended.attempt, ended.detail) == ("confirmed", 1, "")
        assert ended.tx.startswith("0x")
        (sent,) = await system.of(RedemptionSent)
        assert sent.usd == 10 * MICRO
        await paid(system)
        assert len(await system.of(RedemptionSent)) == 1


async def test_a_refusal_is_told_and_asked_again() -> None:
    system, calls = Reconciled(), 0
    sdk = sdk_of(system)

    async def refused_once(condition: ConditionId, account: Account) -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise NotRedeemedError("wallet busy")
        return await sdk(condition, account)

    system.redeem = refused_once
    async with system.reconciling():
        await win(system)
        await paid(system)
        ends = [(e.outcome, e.detail) for e in await system.of(RedemptionEnded)]
        assert ends[0] == ("failed", "wallet busy")
        assert ends[1:] in ([("confirmed", "")], [])  # the reconciler may see it first


async def test_what_else_goes_wrong_is_told_by_its_name_alone() -> None:
    system = Reconciled()

    async def broken(condition: ConditionId, account: Account) -> str:
        raise RuntimeError(f"the key is {KEY}")

    system.redeem = broken
    async with system.reconciling():
        await win(system)
        (ended, *_) = await eventually(lambda: system.of(RedemptionEnded), deadline_s=20)
        assert (ended.outcome, ended.detail) == ("unknown", "RuntimeError")


async def test_killed_while_it_was_asked_for_it_asks_again_and_is_paid_once() -> None:
    system = Reconciled()
    sdk, paying = sdk_of(system), asyncio.Event()

    async def killing(condition: ConditionId, account: Account) -> str:
        tx = await sdk(condition, account)
        if not paying.is_set():
            paying.set()
            await asyncio.Event().wait()  # killed before anybody is told
        return tx

    system.redeem = killing
    async with system.reconciling():
        await win(system)
        await asyncio.wait_for(paying.wait(), 20)
        system.kill()
        await asyncio.gather(system.serving, return_exceptions=True)
        async with system.lane() as system.executor:
            (ended, *_) = await eventually(lambda: system.of(RedemptionEnded), deadline_s=20)
            assert (ended.outcome, ended.detail) == ("unknown", "restarted")
            await paid(system)


async def test_killed_before_it_was_asked_for_it_asks_again() -> None:
    system = Reconciled()
    system.redeem = sdk_of(system)
    system.ledger.fuse = (RedemptionSent, "after")
    async with system.reconciling():
        await win(system)
        with pytest.raises(BaseExceptionGroup) as died:
            await asyncio.wait_for(asyncio.shield(system.serving), 20)
        assert died.group_contains(KilledError)
        async with system.lane() as system.executor:
            await paid(system)
            attempts = [fact.attempt for fact in await system.of(RedemptionSent)]
            assert attempts in ([1], [1, 2]), "the venue's own redeemer is not played here"


def test_a_wallet_that_is_a_contract_needs_a_relayer_key() -> None:
    account = AccountConfig(wallet=WALLET, signature_type=3)
    with pytest.raises(SecretError, match="relayer_key_file"):
        SdkRedeem(Secret(KEY), None, account, PRODUCTION)
    assert SdkRedeem(Secret(KEY), Secret("r"), account, PRODUCTION)


async def test_what_the_sdk_says_is_recorded_without_secrets() -> None:
    """No error of its version shows one; those of the next may."""

    class Telling(SdkRedeem):
        async def _connect(self, account: Account) -> Any:
            raise UserInputError(f"cannot use {KEY} with a-relayer-key")

    redeem = Telling(Secret(KEY), Secret("a-relayer-key"), AccountConfig(wallet=WALLET), PRODUCTION)
    credentials = Credentials(api_key="k", secret="c2VjcmV0", passphrase="p")
    account = Account(address=WALLET, wallet=WALLET, credentials=credentials, signature_type=0)
    with pytest.raises(NotRedeemedError, match=r"cannot use \*\*\* with \*\*\*"):
        await redeem(CONDITION, account)


def test_live_is_the_sdks_own_production() -> None:
    assert environment_of(PRODUCTION).name == "production"
    local = environment_of(VenueUrls.local("http://127.0.0.1:9"))
    assert local._config.rpc_url == "http://127.0.0.1:9/rpc"
