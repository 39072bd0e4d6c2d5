"""The page of an evaluation: `page` writes it from what `payload` makes of it, with counts from `statistics`."""
