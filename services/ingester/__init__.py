"""Leaders' activity and market books: the stream is the signal, REST is the truth.

Consumes the venue alone. Publishes leaders' fills and actions, cursors and feed changes under
``driftless.ingester.``, partitioned by leader; writes book, market and feed views. Owns
``driftless:ingester:*``. Keeps: every fill the venue reports over REST is said exactly once,
whichever source showed it first; a book is trusted only while nothing contradicts it.
"""
