"""Volumes: folders that are filled once for a deployment and mounted into its replicas."""
