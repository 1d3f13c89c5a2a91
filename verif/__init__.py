"""Testbenches with their bus models, coverage and formal properties."""
