"""Composition root of risk: one lane, named by the account."""

from services.risk.core import State, decide, evolve
from services.risk.settings import policy_from
from services.risk.shell import Current, Shell
from shared.domain.ids import partition_of
from shared.domain.messages import Fact
from shared.runtime.books import Books
from shared.runtime.ports import subjects_of
from shared.runtime.runner import Service
from shared.runtime.serve import Built, Context, main


def build(context: Context) -> Built[State]:
    config = context.config
    current = Current(config, policy_from)

    def decide_by_current(state: State, message: object, now_ns: int) -> list[Fact]:
        return decide(current.policy, state, message, now_ns)

    service = Service(
        name="risk",
        state=State,
        decide=decide_by_current,
        evolve=evolve,
        inputs=lambda _: (subjects_of("aggregator"), subjects_of("executor"), subjects_of("ctl")),
        moves_money=True,
        tick_ms=config.risk.tick_ms,
    )
    deadline_s = config.ingester.refresh_deadline_ms / 1_000
    books = Books(context.store, context.client, context.ports.clock, deadline_s=deadline_s)
    return Built(
        service=service,
        make_shell=lambda _: Shell(current, context.store, books),
        partitions=(partition_of(config.account.wallet),),
    )


if __name__ == "__main__":
    main("risk", build)
