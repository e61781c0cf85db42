"""The parts of `testbed/run bench`, a module for each. A part has `body(lab, ...)`, which returns its figures."""
