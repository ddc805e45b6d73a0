"""Before the executor takes a lane: is the venue, and our account there, as this program expects.

In live mode it refuses to start where a probe disagrees, or is not answered: whoever trades on
wrong assumptions loses money before he notices. Elsewhere it says so in the log.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from shared.domain.units import Usd
from shared.polymarket.orders import Signer
from shared.polymarket.probes import Finding
from shared.polymarket.probing import Probing
from shared.polymarket.transport import Patience, open_http
from shared.polymarket.urls import VenueUrls
from shared.runtime.config import AccountConfig
from shared.runtime.logs import log
from shared.runtime.serve import NotReadyError

_ROUNDS: Final = 3  # of asking, while something is not answered
_BETWEEN_S: Final = 5.0
_logger = logging.getLogger(__name__)


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to ask, for which account, and what of it counts."""

    urls: VenueUrls
    account: AccountConfig
    signer: Signer
    now_ns: Callable[[], int]
    least: Usd  # what each exchange has to be allowed to spend
    waived: tuple[str, ...] = ()  # names of probes that do not count
    between_s: float = _BETWEEN_S

    async def warn(self) -> None:
        """Make every probe and log what disagrees."""
        for finding in await self._probe():
            if finding.outcome != "ok":
                _log(finding, logging.WARNING)

    async def ensure(self) -> None:
        """Return when every probe agrees; raise NotReadyError with each that does not."""
        turn = 1
        while True:
            findings = await self._probe()
            against = [each for each in findings if _counts(each, self.waived)]
            if turn == _ROUNDS or all(each.outcome != "unknown" for each in against):
                break
            turn += 1
            await asyncio.sleep(self.between_s)
        for finding in findings:
            _log(finding, logging.INFO if finding.outcome == "ok" else logging.WARNING)
        if against:
            raise NotReadyError(refusal(against))

    async def _probe(self) -> list[Finding]:
        rng = random.Random()  # noqa: S311 - jitter
        async with open_http(rng=rng, patience=Patience(deadline_s=10, attempt_s=5)) as http:
            probing = Probing(http, self.urls, now_ns=self.now_ns)
            public, account = await asyncio.gather(
                probing.public(),
                probing.account(
                    self.signer,
                    self.account.wallet,
                    self.account.signature_type,
                    least=self.least,
                ),
            )
        return [*public, *account]


def _counts(finding: Finding, waived: Sequence[str]) -> bool:
    return finding.outcome in ("fail", "unknown") and finding.name not in waived


def refusal(against: Sequence[Finding]) -> str:
    """Return what the operator reads where live trading is refused."""
    lines = [f"  {finding}" for finding in against]
    head = f"refused to trade live: {len(against)} start-up probe(s) disagree"
    tail = "  `driftless check` shows them all; see docs/live.md"
    return "\n".join([head, *lines, tail])


def _log(finding: Finding, level: int) -> None:
    log(_logger, level, "probe", name=finding.name, outcome=finding.outcome,
        expected=finding.expected, seen=finding.seen, cure=finding.cure)  # fmt: skip
