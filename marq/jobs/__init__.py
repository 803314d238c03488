"""What there is to jobs beyond one at a time: lists of them."""
