"""What runs next, and what OUT holds and shows. It knows no Ray."""
