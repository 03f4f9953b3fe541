"""Server of the page: launch, request checks, rate limits, uploads, logs, the first view and the HTTP API."""
