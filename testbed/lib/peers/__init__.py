"""Programs of others that run beside ours or that ours are compared with."""
