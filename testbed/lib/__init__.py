"""Shared code of the scenarios. Scenarios import from here; nothing here knows a scenario.

    scenario    runs a scenario and prints its result as JSON
    lab         one run: namespaces, cables, hugepages, processes, containers, and the fabric that joins hosts
    product     the programs under test: how they are configured, started and asked; the documents that describe them
    guests      virtual machines in QEMU, and their live migration
    peers       programs of others beside ours: Open vSwitch, keepalived
    traffic     what is sent through the lab, and how it is counted and captured
    bench       measurements of the data path; `bench.parts` has one module for each part of `testbed/run bench`

A new scenario is a file in `scenarios/`. It builds a `fabric.Fabric` with hosts and tenants in a `Lab`, sends traffic,
and returns figures; `scenario.main` says which of them must be 0 and which must be above 0. `scenarios/overlay.py` is a
good one to begin with.
"""
