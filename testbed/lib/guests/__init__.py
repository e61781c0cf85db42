"""Virtual machines in QEMU, and their live migration."""
