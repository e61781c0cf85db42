"""Shared helpers of the testbed. Scenarios import from here; nothing here knows a scenario."""
