"""hale runs deployments and keeps their traffic on healthy replicas."""

__version__ = "0.1.0"
