"""TensorBoard: what a search writes for it, and how it is served."""
