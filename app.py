"""Build the lab and launch it; what a Space runs. Obeys GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."""

from neftune_core.ui.server.serve import serve

if __name__ == "__main__":
    serve()
