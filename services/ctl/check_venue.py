"""What `driftless check` asks of the venue: every start-up probe, as lines.

The probes are those that the executor makes before it trades live.
"""

import contextlib
import random
import time
from collections.abc import Mapping
from typing import Final

from services.ctl.lines import Line, Verdict
from shared.domain.units import NS_PER_S, Usd
from shared.polymarket.errors import VenueError
from shared.polymarket.orders import Signer
from shared.polymarket.probes import Finding, unasked
from shared.polymarket.probing import PUBLIC, STREAM_S, WITH_KEY, Probing
from shared.polymarket.public import PublicVenue
from shared.polymarket.transport import Patience, open_http
from shared.runtime.config import Config, load_private_key
from shared.runtime.serve import urls_of

QUIET_S: Final = 30 * 86_400
LEADERS_MAX: Final = 20  # asked about; more would take too long
KEYLESS = "it needs the key, which is the executor's: `driftless check --with-key`"


async def venue(
    config: Config,
    environ: Mapping[str, str],
    *,
    with_key: bool = False,
    stream_s: float = STREAM_S,
) -> list[Line]:
    """Return a line for each probe; raises SecretError where a key is asked for and cannot be."""
    patience = Patience(deadline_s=6, attempt_s=4)
    rng = random.Random()  # noqa: S311 - jitter
    async with open_http(rng=rng, patience=patience) as http:
        probing = Probing(http, urls_of(config), now_ns=time.time_ns)
        clock = await probing.clock()
        if clock.outcome == "unknown":
            return _away(config, clock)
        found = await probing.public(stream_s=stream_s)
        if with_key:
            least: Usd = config.risk.trade_usd_max
            signer = Signer.from_hex(load_private_key(config, environ).reveal())
            account = config.account
            found += await probing.account(
                signer, account.wallet, account.signature_type, least=least
            )
        else:
            found += [unasked(name, KEYLESS) for name in WITH_KEY]
        quiet = await _quiet(config, PublicVenue(http, now_ns=time.time_ns, urls=urls_of(config)))
    return [*(line_of(each, config) for each in found), *quiet]


async def _quiet(config: Config, venue: PublicVenue) -> list[Line]:
    """Name the leaders that did nothing for long: often it is the signer that was entered."""
    lines = []
    start_s = time.time_ns() // NS_PER_S - QUIET_S
    for leader in config.leaders[:LEADERS_MAX]:
        pages = venue.activity(leader.wallet, start_s=start_s, limit=1)
        try:
            async with contextlib.aclosing(pages):
                did = bool((await anext(pages)).rows)
        except VenueError:
            continue  # the data index has its own line
        if not did:
            name = f"leader {leader.name or leader.wallet[:10]}"
            found = f"{leader.wallet} did nothing for {QUIET_S // 86_400} days"
            cure = "is it the wallet that holds the funds, not the key that signs for it?"
            lines.append(Line(name=name, outcome="warn", found=found, cure=cure))
    return lines


def _away(config: Config, clock: Finding) -> list[Line]:
    cure = "is it running, and is venue.clob_url right?"
    found = f"{config.venue.clob_url}: {clock.seen}"
    missed = (unasked(name, "the venue does not answer") for name in (*PUBLIC, *WITH_KEY))
    return [
        Line(name="venue", outcome="fail", found=found, cure=cure),
        *(line_of(each, config) for each in missed),
    ]


def line_of(finding: Finding, config: Config) -> Line:
    """Return a probe's line; what is not answered stops live trading, and elsewhere warns."""
    verdict: Verdict
    if finding.outcome != "unknown":
        verdict = finding.outcome
    elif not finding.expected:
        verdict = "skip"
    elif finding.name in config.executor.probes_waived or config.mode != "live":
        verdict = "warn"
    else:
        verdict = "fail"
    if verdict == "fail" and finding.name in config.executor.probes_waived:
        verdict = "warn"
    expected = "" if verdict in ("ok", "skip") else f" (expected {finding.expected})"
    return Line(
        name=f"probe: {finding.name}",
        outcome=verdict,
        found=f"{finding.seen}{expected}",
        cure=finding.cure,
    )
