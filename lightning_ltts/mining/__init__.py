"""Mining: rolling out from every prefix for thought labels, and the trajectory store."""
