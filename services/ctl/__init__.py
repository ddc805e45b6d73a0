"""The operator's command line, and the local servers and processes it starts.

Reads the ledger and the views; publishes commands under ``driftless.ctl.``; edits no state.
"""
