"""Speed and memory: steps, epochs, scaling, attacks and bounds, optionally beside the same work in PyTorch."""
