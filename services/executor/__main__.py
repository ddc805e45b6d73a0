"""Composition root of the executor: the only process that is given the key."""

import os
import sys
from functools import partial

from services.executor.core import State, decide, evolve
from services.executor.keys import forbid_dumps, take_key, take_relayer_key
from services.executor.readiness import Readiness
from services.executor.sdk import Redeem, SdkRedeem
from services.executor.session import World, terms_of
from services.executor.shell import Shell
from services.executor.state import Draft, Policy
from shared.domain.ids import OrderHash, Wallet, partition_of
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.polymarket.orders import Signer, order_hash
from shared.runtime.books import Books
from shared.runtime.config import SecretError
from shared.runtime.ports import subjects_of
from shared.runtime.runner import Service
from shared.runtime.serve import Built, Context, main, urls_of


def build(context: Context) -> Built[State]:
    forbid_dumps()
    config, redeem = context.config, None
    try:
        key, relayer_key = take_key(config, os.environ), take_relayer_key(config, os.environ)
        signer = Signer.from_hex(key.reveal())
        if config.executor.redeem:
            redeem = SdkRedeem(key, relayer_key, config.account, urls_of(config))
    except (SecretError, ValueError) as e:
        sys.exit(f"executor: {e}")
    return assemble(context, signer, redeem)


def assemble(context: Context, signer: Signer, redeem: Redeem | None = None) -> Built[State]:
    """Build the service around the key that signs for it, and what redeems, if anything does."""
    config, own = context.config, Wallet(signer.address.lower())

    def hash_of(draft: Draft) -> OrderHash:
        return order_hash(terms_of(draft, config.account, own))

    policy = Policy(
        wallet=config.account.wallet,
        book_age_ns_max=config.executor.book_age_ms_max * NS_PER_MS,
        lookup_attempts=config.executor.lookup_attempts,
        resends_max=config.executor.resends_max,
        patience_ns=config.executor.patience_s * NS_PER_S,
        surrendered_kept_ns=config.executor.surrendered_kept_s * NS_PER_S,
        redeem_after_ns=config.executor.redeem_after_s * NS_PER_S if redeem else None,
        hash_of=hash_of,
    )
    service = Service(
        name="executor",
        state=State,
        decide=partial(decide, policy),
        evolve=evolve,
        inputs=lambda _: (subjects_of("risk"), subjects_of("reconciler"), subjects_of("ctl")),
        moves_money=True,
    )
    deadline_s = config.ingester.refresh_deadline_ms / 1_000
    world = World(
        account=config.account,
        settings=config.executor,
        urls=urls_of(config),
        signer=signer,
        books=Books(context.store, context.client, context.ports.clock, deadline_s=deadline_s),
        tracing=context.tracing,
        metrics=context.metrics,
        called=context.endpoints.called,
        redeem=redeem,
        rng=context.rng,
    )
    readiness = Readiness(
        urls=world.urls,
        account=config.account,
        signer=signer,
        now_ns=context.ports.clock.now_ns,
        least=config.risk.trade_usd_max,
        waived=config.executor.probes_waived,
    )
    live = config.mode == "live"
    return Built(
        service=service,
        make_shell=lambda _: Shell(world),
        partitions=(partition_of(config.account.wallet),),
        before=readiness.ensure if live else None,
        background=() if live else (readiness.warn,),
    )


if __name__ == "__main__":
    main("executor", build)
