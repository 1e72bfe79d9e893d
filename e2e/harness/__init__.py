"""Starts real engines and the gateway for a test run, and stops them."""
