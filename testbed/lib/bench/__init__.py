"""Measurements of the data path: devices under test, their workload, sampling, results."""
