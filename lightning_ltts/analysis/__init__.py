"""What was predicted, summed up: tables, intervals and figures, from stored files only."""
