"""The local venue: an exchange in miniature that speaks Polymarket's wire on one port.

Consumes nothing from the bus and publishes nothing to it. The matching, the accounts and the
settlement (`core`, `trading`, `matching`, `ledger`, `settlement`) are pure; `server` is the shell.
"""
