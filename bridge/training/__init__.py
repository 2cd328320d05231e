"""C-MCR projectors by gradient descent: from memories to rows, steps, epochs and checkpoints."""
