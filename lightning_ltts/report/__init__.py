"""HTML page, images and tables from stored predictions."""
