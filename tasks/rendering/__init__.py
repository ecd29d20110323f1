"""What draws the pictures of generated task sets."""
