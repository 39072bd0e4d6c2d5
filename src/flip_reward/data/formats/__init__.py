"""What rows are read from: a file each for JSON, delimited cells, columns and sheets, and what they share."""
