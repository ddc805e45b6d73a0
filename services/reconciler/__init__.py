"""Belief against the venue: drift found, explained, and handed to its owner for correction.

Consumes the executor's positions view and the venue's positions and open orders, in one lane
for the account. Publishes drifts and orphans under ``driftless.reconciler.``; owns
``driftless:reconciler:*`` and the drift view. Keeps: a difference is corrected once, and only
after it was confirmed by a later observation with nothing of the token in motion.
"""
