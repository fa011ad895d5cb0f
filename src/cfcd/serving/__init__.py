"""Serve a gallery over HTTP: an API, a page, and why it matched."""
