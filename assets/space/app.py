"""Entry point of the Space."""

from neftune_core.ui.server.serve import serve

if __name__ == "__main__":
    serve()
