"""Does this installation sign orders as the venue's own client does: known answers, no network.

The vectors were computed with the venue's client; the key is one that everybody knows.
"""

from typing import Final, Literal, NamedTuple

import msgspec

from shared.domain.ids import TokenId, Wallet
from shared.domain.market import Protocol, Side
from shared.domain.units import Price, Shares
from shared.polymarket.orders import OrderTerms, Signer
from shared.polymarket.probes import Finding

_KEY: Final = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"  # anvil's first
_TOKEN: Final = "71321045679252212594626385532706912750332728571942532289631379312455583992563"
_TOKEN_V3: Final = "663574927012476832975694178961957910328055987427402067619466963999000625152"
_OWNER: Final = Wallet("0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266")
_SIGNATURE: Final = (
    "0x89f178136333c8ebb32a19146cb891233e3202d474be6ef730c24dbc06ae4d2a"
    "0c99948a86d9b57de0f2c0bb8ec6964aa244ecf17cfa3a95b86878d0b64ad78a1b"
)  # of the first vector


class _Vector(NamedTuple):
    protocol: Protocol
    exchange: Literal["plain", "neg-risk"]
    side: Side
    token: str
    amounts: tuple[int, int]
    salt: int
    timestamp_ms: int
    hash: str


_VECTORS: Final = (
    _Vector(
        "v1",
        "plain",
        "BUY",
        _TOKEN,
        (100_000_000, 50_000_000),
        123_456_789,
        1_713_398_400_000,
        "0x32961c48ddac87ed3582f8e02097cd0eff4fcf80460306bd44b3710438dfa64c",
    ),
    _Vector(
        "v1",
        "neg-risk",
        "SELL",
        _TOKEN,
        (50_000_000, 100_000_000),
        987_654_321,
        1_713_398_400_000,
        "0x8b878404bd92dea2bfea9975c9fcd816ec70a57ae431cb20d67bb773744aaef3",
    ),
    _Vector(
        "v2",
        "plain",
        "BUY",
        _TOKEN_V3,
        (2_500_000, 5_000_000),
        123_456_789,
        1_793_318_400_000,
        "0x4faf1e7747bd0c1717263fb6e02df62581cd34620cefddfeacf3e29a41268bc9",
    ),
)


class _Signed(msgspec.Struct):
    signature: str


class _Body(msgspec.Struct):
    order: _Signed


def signing() -> Finding:
    """Sign an order for each exchange and compare with what the venue's client makes of it."""
    signer = Signer.from_hex(_KEY)
    made = [signer.sign(_terms(vector), owner="") for vector in _VECTORS]
    wrong = [
        f"{vector.protocol} {vector.side}"
        for vector, order in zip(_VECTORS, made, strict=True)
        if order.hash != vector.hash
    ]
    if msgspec.json.decode(made[0].body, type=_Body).order.signature != _SIGNATURE:
        wrong.append("signature")
    return Finding(
        name="signing",
        outcome="fail" if wrong else "ok",
        expected="the hashes and the signature of the venue's client",
        seen=f"others: {', '.join(wrong)}" if wrong else "the same for each exchange",
        cure="install the pinned dependencies again: pip install -r requirements.lock"
        if wrong
        else "",
    )


def _terms(vector: _Vector) -> OrderTerms:
    return OrderTerms(
        maker=_OWNER,
        signer=_OWNER,
        token=TokenId(vector.token),
        side=vector.side,
        price=Price(500_000),
        size=Shares(1_000_000),
        maker_amount=vector.amounts[0],
        taker_amount=vector.amounts[1],
        salt=vector.salt,
        timestamp_ms=vector.timestamp_ms,
        neg_risk=vector.exchange == "neg-risk",
        protocol=vector.protocol,
    )
