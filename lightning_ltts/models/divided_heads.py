"""Tensor parallelism: each device holds some heads of every block, and all read the same questions.

Between blocks hidden states are whole on every device, so that nothing else has to know of it: a
cache holds the keys and values of the device's own heads, whatever rows it forks, drops or joins.
"""

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.parallel.style import ParallelStyle
from transformers import PreTrainedModel

from lightning_ltts.errors import ConfigError
from lightning_ltts.models.families import Division, family_of

# a matrix is divided by what it makes, or by what it reads; then all devices' results are summed
_STYLES: dict[Division, type[ParallelStyle]] = {"out": ColwiseParallel, "in": RowwiseParallel}


def divide_heads(backbone: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Divides the blocks of a backbone over the devices of a mesh of one dimension.

    Embeddings, norms and the vocabulary head stay whole on every device. A backbone that is divided
    already stays as it is.

    Args:
        backbone: with all of its weights, on every device; a device keeps its part of them.
        mesh: the devices.

    Raises:
        ConfigError: the family cannot be divided, or not over so many devices.
    """
    reason = what_speaks_against(backbone, mesh.size())
    if reason is not None:
        raise ConfigError(reason)
    family = family_of(backbone.config.model_type)
    for block in backbone.base_model.get_submodule(family.blocks).children():
        if any(isinstance(weight, DTensor) for weight in block.parameters()):
            continue
        plan = {path: _STYLES[division]() for path, division in family.divisions.items()}
        parallelize_module(block, mesh, plan)


def what_speaks_against(backbone: PreTrainedModel, devices: int) -> str | None:
    """Why a backbone cannot be divided over so many devices, and what to do; None where it can."""
    config = backbone.config
    family = family_of(config.model_type)
    if not family.divisions:
        return (
            f"the {family.model_type} family cannot be divided by heads (tensor parallelism); leave "
            "trainer=tensor_parallel out, every device then holds the whole model"
        )
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    for name, number in (
        ("heads", config.num_attention_heads),
        ("key and value heads", kv_heads),
        ("units of an MLP", config.intermediate_size),
    ):
        if number % devices:
            return (
                f"{number} {name} cannot be divided over {devices} devices; set "
                "trainer.strategy.init_args.tensor_parallel_size to a number that divides them"
            )
    return None
