"""The programs under test, and the documents that describe them."""
