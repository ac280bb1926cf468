"""Networks: uint8 RGBY images in, 28 logits out."""
