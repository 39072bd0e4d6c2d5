"""The page of a run: `page` writes what `payload` makes of the records; `texts` reads rows and texts again."""
