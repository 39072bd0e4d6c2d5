"""What a model replied, read: an inferred instruction, a rating or a choice, or why there is none."""
