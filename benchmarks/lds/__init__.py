"""Does it attribute? Diffusion models trained on half subsets of CIFAR-2, and how well scores predict their losses."""
