"""The relayer: sends what a wallet's owner signed to the chain, and pays for it (protocol.md 8.4).

Wallets that are contracts redeem through it. A transaction is carried out as it is submitted and
then told as executed, mined and confirmed at the venue's own pace.
"""

import uuid
from typing import Final, Literal

import msgspec
from aiohttp import web
from eth_abi.exceptions import EncodingError

from services.paper_venue.http import answer, decode, parameter, shell_of
from services.paper_venue.relayed import Relayed
from services.paper_venue.settlement import Stamp, new_tx
from services.paper_venue.state import Refused
from services.paper_venue.wallet_calls import (
    PROXY_FACTORY,
    RELAY,
    RevertedError,
    UnknownCallError,
    WalletCall,
    calls_of_factory,
    calls_of_safe,
    deposit_signer,
    perform,
    proxy_signer,
    safe_signer,
)
from services.paper_venue.wire import Json
from shared.domain.ids import Wallet, wallet
from shared.domain.units import NS_PER_S

routes = web.RouteTableDef()
# What numbers, addresses and bytes that are none lead to.
_UNREADABLE: Final = (ValueError, TypeError, IndexError, OverflowError, EncodingError)
_KEYS: Final = ("RELAYER_API_KEY", "POLY_BUILDER_API_KEY")  # any will do here


class _Call(msgspec.Struct, frozen=True):
    target: str
    value: str
    data: str


class _Batch(msgspec.Struct, frozen=True):
    depositWallet: str  # noqa: N815 - the wire's names
    deadline: str
    calls: list[_Call]


class _Terms(msgspec.Struct, frozen=True):
    operation: str = "0"
    gasLimit: str = "0"  # noqa: N815


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /submit``."""

    type: Literal["WALLET", "PROXY", "SAFE"]
    owner: str = msgspec.field(name="from")
    to: str
    nonce: str
    signature: str
    data: str = ""
    metadata: str = ""
    proxyWallet: str = ""  # noqa: N815
    signatureParams: _Terms = _Terms()  # noqa: N815
    depositWalletParams: _Batch | None = None  # noqa: N815


@routes.get("/deployed")
async def get_deployed(request: web.Request) -> web.Response:
    """Answer whether a proxy, safe or deposit wallet is known here: funded, or owned by an EOA."""
    venue, who = shell_of(request).venue, _asked_for(request)
    return answer({"deployed": who in venue.owner_of or who in venue.ledger.cash})


@routes.get("/v1/account/transactions/params")
async def get_params(request: web.Request) -> web.Response:
    return answer(_params(request))


@routes.get("/relay-payload")
async def get_relay_payload(request: web.Request) -> web.Response:
    return answer({**_params(request), "address": RELAY})


@routes.get("/v1/account/transactions/{id}")
async def get_transaction(request: web.Request) -> web.Response:
    shell = shell_of(request)
    relayed = shell.relayer.relayed.get(request.match_info["id"])
    if relayed is None:
        raise Refused("transaction not found", 404)
    return answer(
        {
            "transaction_id": relayed.id,
            "transaction_hash": relayed.tx,
            "state": relayed.state(shell.venue.config, shell.now_ns()),
            "error_msg": relayed.error,
        }
    )


@routes.post("/submit")
async def post_submit(request: web.Request) -> web.Response:
    shell = shell_of(request)
    if not any(request.headers.get(name) for name in _KEYS):
        raise Refused("invalid authorization", 401)
    body = decode(await request.read(), Submitted, "invalid transaction")
    try:
        owner, who, calls = wallet(body.owner), wallet(_wallet_of(body)), _calls_of(body)
        if shell.venue.owner_of.get(who) != owner:
            raise Refused(f"{who} is no wallet of {owner}")
        _check_nonce(body, shell.relayer.nonces[body.type, owner])
        if _signer_of(body, calls) != owner:
            raise Refused("invalid signature")
        batch = body.depositWalletParams
        if batch is not None and int(batch.deadline) * NS_PER_S < shell.now_ns():
            raise Refused("the deadline has passed")
    except _UNREADABLE as error:
        raise Refused(f"invalid transaction: {error}") from None

    def change(now_ns: int) -> Relayed:
        tx, error = new_tx(shell.venue), ""
        try:
            perform(shell.venue, who, calls, Stamp(now_ns, tx))
        except RevertedError as reverted:
            error = f"execution reverted: {reverted}"
        number = uuid.UUID(bytes=bytes.fromhex(tx[2:34]), version=4)
        return Relayed(id=str(number), tx=tx, taken_ns=now_ns, error=error)

    try:
        relayed = shell.apply(change)
    except UnknownCallError as error:
        raise Refused(str(error)) from None
    shell.relayer.nonces[body.type, owner] += 1
    shell.relayer.relayed[relayed.id] = relayed
    return answer({"transactionID": relayed.id, "transactionHash": "", "state": "STATE_NEW"})


def _asked_for(request: web.Request) -> Wallet:
    try:
        return wallet(parameter(request, "address"))
    except ValueError as error:
        raise Refused(str(error)) from None


def _params(request: web.Request) -> Json:
    kind, who = parameter(request, "type"), _asked_for(request)
    return {"address": who, "nonce": str(shell_of(request).relayer.nonces[kind, who])}


def _wallet_of(body: Submitted) -> str:
    if body.type != "WALLET":
        return body.proxyWallet
    if body.depositWalletParams is None:
        raise ValueError("depositWalletParams is missing")
    return body.depositWalletParams.depositWallet


def _calls_of(body: Submitted) -> list[WalletCall]:
    data = bytes.fromhex(body.data.removeprefix("0x"))
    match body.type:
        case "PROXY" if body.to.lower() == PROXY_FACTORY:
            return calls_of_factory(data)
        case "SAFE":
            return calls_of_safe(body.to, data)
        case "WALLET" if body.depositWalletParams is not None:
            return [
                WalletCall(call.target.lower(), bytes.fromhex(call.data.removeprefix("0x")))
                for call in body.depositWalletParams.calls
            ]
        case _:
            raise ValueError(f"{body.to} does not act for wallets of this type")


def _check_nonce(body: Submitted, expected: int) -> None:
    if int(body.nonce) != expected:
        raise Refused(f"batch nonce {body.nonce} does not match on-chain nonce {expected}")


def _signer_of(body: Submitted, calls: list[WalletCall]) -> Wallet:
    """Return who signed; raises ValueError."""
    data, nonce = bytes.fromhex(body.data.removeprefix("0x")), int(body.nonce)
    signature, terms = bytes.fromhex(body.signature.removeprefix("0x")), body.signatureParams
    match body.type:
        case "PROXY":
            return proxy_signer(body.owner, data, int(terms.gasLimit), nonce, signature)
        case "SAFE":
            kind = (int(terms.operation), nonce)
            return safe_signer(body.proxyWallet, body.to, data, kind, signature)
        case "WALLET":
            batch = body.depositWalletParams
            assert batch is not None, "it has a wallet"
            deadline = int(batch.deadline)
            return deposit_signer(batch.depositWallet, nonce, deadline, calls, signature)
