"""Figures that TensorBoard and the report share."""
