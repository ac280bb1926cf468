"""The ledger of a search: one Optuna study in a journal or a database, and the lease on it. It knows no Ray."""
