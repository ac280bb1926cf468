"""The search: what runs, where, for how long, and its ledger."""
