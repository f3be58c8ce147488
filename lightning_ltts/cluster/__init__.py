"""Cluster: shards of mining and prediction that are done by workers which come and go."""

from lightning_ltts.cluster.engine import Done, Engine, Place, Work
from lightning_ltts.cluster.ray_engine import RayEngine

__all__ = ["Done", "Engine", "Place", "RayEngine", "Work"]
