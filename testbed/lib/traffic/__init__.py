"""What is sent through the lab, and how it is counted and captured."""
