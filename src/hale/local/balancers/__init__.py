"""Balancers: what carries traffic to replicas."""
