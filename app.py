"""Launch the lab, as a Space does; GRADIO_SERVER_NAME and GRADIO_SERVER_PORT set its address."""

from neftune_core.ui.server.serve import serve

if __name__ == "__main__":
    serve()
