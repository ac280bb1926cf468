"""The phantom atlas: synthetic images in the Kaggle layout."""
