"""Networks: from uint8 RGBY images to 28 logits."""
