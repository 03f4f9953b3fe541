"""Serving the page: launch, admission, rate limits, uploads, logs, the first view, the HTTP API."""
