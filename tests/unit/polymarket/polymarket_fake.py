"""A venue behind httpx's own seam, for the tests of the calls."""

import random
from collections.abc import Callable
from typing import Any

import httpx

from shared.domain.ids import ConditionId, OrderHash, TokenId, Wallet
from shared.polymarket.auth import Account, Credentials, SignedOrder
from shared.polymarket.rest import Venue
from shared.polymarket.transport import Http, Patience
from shared.polymarket.urls import VenueUrls

YES, NO = TokenId("71" + "0" * 70), TokenId("52" + "0" * 70)
MARKET = ConditionId("0x" + "c1" * 32)
US = Wallet("0x" + "aa" * 20)
KEYS = Credentials(api_key="key-1", secret="AAECAwQFBgc=", passphrase="hidden-phrase")
ACCOUNT = Account(address="0xEOA", wallet=US, credentials=KEYS, signature_type=3)
HASH = OrderHash("0x" + "0" * 63 + "1")
SIGNED = SignedOrder(hash=HASH, body=b'{"order":{"signature":"0xfeed"}}')
NOW_NS = 1_793_318_400_500_000_000
NO_WAIT = Patience(deadline_s=5, attempt_s=5, attempts=3, backoff_base_s=0, backoff_cap_s=0)

Handler = Callable[[httpx.Request], httpx.Response]


class Fake:
    """A venue behind httpx's own seam: answers in turn, the last one for ever."""

    def __init__(self, *answers: Any, on_call: Any = None, patience: Patience = NO_WAIT) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.calls: list[tuple[str, int]] = []
        client = httpx.AsyncClient(transport=httpx.MockTransport(self._handle))
        self.http = Http(
            client,
            rng=random.Random(1),
            patience=patience,
            on_call=on_call or (lambda name, seconds, status: self.calls.append((name, status))),
        )
        self.venue = Venue(
            self.http,
            now_ns=lambda: NOW_NS,
            account=ACCOUNT,
            urls=VenueUrls.local("http://venue.test"),
        )

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json=answer)


def refused(status: int, text: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"error": text}, headers=named)
