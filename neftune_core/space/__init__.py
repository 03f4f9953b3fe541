"""What makes a Space: the profiles of a server, the folder that is pushed, ZeroGPU, the visitor's own account."""
