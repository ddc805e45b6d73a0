"""Intents become targets, targets become approved orders or refusals with their numbers.

Consumes intents, the executor's facts and the operator's commands, in one lane for the account,
so that no two decisions can spend the same cap. Publishes targets, approvals, refusals, holdings
and regimes under ``driftless.risk.``. Owns ``driftless:risk:*`` and the risk view. Keeps: no
order without an approval on record; exposure never passes a cap, open and unknown orders counted
at their worst; no new risk on stale data.
"""
