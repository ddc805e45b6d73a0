"""Approved orders are prepared on record, sent once, and followed to their end.

Consumes risk's approvals and the reconciler's drifts and orphans, in one lane for the account.
Publishes the life of orders, fills and position corrections under ``driftless.executor.``. Owns
``driftless:executor:*``, the positions and account views, and the key. Keeps: no order is sent
before its hash is durable; none is executed twice, for only the same bytes may go out again; a
lost answer is unknown until the venue was asked; a fill is counted once, whoever reports it, how
often and how late.
"""
