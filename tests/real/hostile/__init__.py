"""Clients that mean harm, and an upstream that records what of it reaches it. Run by `hostile.py` beside this folder."""
