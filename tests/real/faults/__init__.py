"""The rows of the fault matrix, and what they are made of."""
