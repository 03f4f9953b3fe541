"""Exports: models with their cards, archives of records, scripts for other machines, and reports."""
