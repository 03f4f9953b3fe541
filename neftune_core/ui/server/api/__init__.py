"""The HTTP API: named endpoints, also available as tools of the Model Context Protocol."""
