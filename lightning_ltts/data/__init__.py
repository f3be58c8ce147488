"""Problems and their answers, tokenizers, the built-in task."""
