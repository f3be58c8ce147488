"""LightningModules, one per thing that is trained."""
