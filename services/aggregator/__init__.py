"""Fills in a window become one intent.

Consumes the ingester's leader facts of its partitions, and its snapshots of what they hold.
Publishes FillCounted, IntentFormed, WindowNetted and LeaderDriftSuspected, LeaderDriftCleared,
LeaderCorrected under ``driftless.aggregator.``; asks for a leader to be read again on
``rpc.leader.reread``. Owns ``driftless:aggregator:*`` and the exposure views. Keeps: a leader's
activity moves his exposure once; the sum of intents is his change; no old entry is copied.
"""
