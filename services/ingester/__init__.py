"""Leaders' activity and market books: the stream is the signal, REST is the truth.

Consumes the venue, and a node of the chain where one is configured. Publishes leaders' fills and
actions, cursors, resolutions of leaders' markets and feed changes under ``driftless.ingester.``,
partitioned by leader; writes book, market, leader and feed views. Owns
``driftless:ingester:*``. Keeps: every fill the venue reports over REST is said exactly once,
whichever source showed it first; a book is trusted only while nothing contradicts it; a leader's
view is written once all his activity up to it is in the ledger.
"""
