"""What services ask each other directly, beside the ledger: questions that may be lost."""

from typing import Final

# The ingester answers with a token's Book or a condition's Market.
REFRESH: Final = "rpc.book.refresh"
# {"leader": wallet}: read him now, do not wait for his turn. Nobody answers.
REREAD: Final = "rpc.leader.reread"
