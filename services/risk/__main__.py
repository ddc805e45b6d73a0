"""Composition root of risk: one lane, named by the account."""

from functools import partial

from services.risk.core import State, decide, evolve
from services.risk.shell import Shell
from services.risk.state import Policy, Sizing
from shared.domain.ids import partition_of
from shared.domain.units import NS_PER_MS, NS_PER_S
from shared.runtime.books import Books
from shared.runtime.config import Config, LeaderConfig
from shared.runtime.ports import subjects_of
from shared.runtime.runner import Service
from shared.runtime.serve import Built, Context, main


def policy_from(config: Config) -> Policy:
    """Return every limit in the core's units."""
    risk = config.risk
    return Policy(
        sizing=Sizing(leader_usd_max=risk.leader_usd_max),
        leaders={leader.wallet: _sizing(config, leader) for leader in config.leaders},
        entry_age_ns_max=risk.entry_age_ms_max * NS_PER_MS,
        order_ttl_ns=config.executor.order_ttl_ms * NS_PER_MS,
        book_age_ns_max=risk.book_age_ms_max * NS_PER_MS,
        book_dead_ns=risk.book_dead_ms * NS_PER_MS,
        market_age_ns_max=risk.market_age_s_max * NS_PER_S,
        account_age_ns_max=risk.account_age_ms_max * NS_PER_MS,
        slippage_bps_max=risk.slippage_bps_max,
        price_moved_bps_max=risk.price_moved_bps_max,
        price_min=risk.price_min,
        price_max=risk.price_max,
        trade_usd_max=risk.trade_usd_max,
        market_usd_max=risk.market_usd_max,
        event_usd_max=risk.event_usd_max,
        total_usd_max=risk.total_usd_max,
        daily_loss_usd_max=risk.daily_loss_usd_max,
        end_ns_min=risk.end_s_min * NS_PER_S,
        drift_usd_max=risk.drift_usd_max,
        rejects_max=risk.rejects_max,
        rejects_window_ns=risk.rejects_window_s * NS_PER_S,
        retry_ns=risk.retry_ms * NS_PER_MS,
        dust=config.aggregator.dust_shares,
    )


def _sizing(config: Config, leader: LeaderConfig) -> Sizing:
    cap = leader.leader_usd_max
    return Sizing(
        mode=leader.sizing,
        trade_usd=leader.trade_usd,
        ratio_bps=leader.ratio_bps,
        leader_usd_max=config.risk.leader_usd_max if cap is None else cap,
    )


def build(context: Context) -> Built[State]:
    config = context.config
    policy = policy_from(config)
    service = Service(
        name="risk",
        state=State,
        decide=partial(decide, policy),
        evolve=evolve,
        inputs=lambda _: (subjects_of("aggregator"), subjects_of("executor"), subjects_of("ctl")),
        moves_money=True,
        tick_ms=config.risk.tick_ms,
    )
    deadline_s = config.ingester.refresh_deadline_ms / 1_000
    books = Books(context.store, context.client, context.ports.clock, deadline_s=deadline_s)
    return Built(
        service=service,
        make_shell=lambda _: Shell(policy, context.store, books),
        partitions=(partition_of(config.account.wallet),),
    )


if __name__ == "__main__":
    main("risk", build)
