"""The platform on a cluster. So far its pure half: a spec becomes manifests."""
