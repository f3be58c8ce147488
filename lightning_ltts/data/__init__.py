"""Problems, tokenizers, the built-in task, mining and the trajectory store."""
