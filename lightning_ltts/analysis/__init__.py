"""Numbers from stored predictions: tables, intervals, measures of the thoughts."""
