"""Tests that drive published Jupyter clients, unmodified, against a server: drive runs them."""
