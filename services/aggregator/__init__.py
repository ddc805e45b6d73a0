"""Fills in a window become one intent.

Consumes the ingester's leader facts of its partitions. Publishes FillCounted, IntentFormed,
WindowNetted under ``driftless.aggregator.``. Owns ``driftless:aggregator:*`` and the exposure
views. Keeps: a leader's activity moves his exposure once; the sum of intents is his change.
"""
