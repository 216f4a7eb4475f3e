"""Tests that drive published clients, unmodified, against a server: drive runs them."""
