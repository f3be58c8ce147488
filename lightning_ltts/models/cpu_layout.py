"""How the weights of a model that is only read lie in a CPU's memory."""

import torch
from torch import nn
from torch.distributed.tensor import DTensor


def lay_out_for_reading(model: nn.Module) -> None:
    """Stores the weights of linear layers so that a CPU multiplies few rows by them fastest.

    `nn.Linear` multiplies by the transpose of its weight, which for some dozen rows takes a third
    longer than a product with a matrix that already lies so (docs/performance.md). Shapes and
    values stay as they are; results may differ in their last bits. What is not single precision
    on a CPU stays, and so do weights that are embeddings, too. Do not train the model after it:
    safetensors refuse to write such tensors.
    """
    shared = {id(x.weight) for x in model.modules() if isinstance(x, nn.Embedding)}
    with torch.inference_mode(False):  # so that parameters stay what they are
        for layer in model.modules():
            if not isinstance(layer, nn.Linear) or id(layer.weight) in shared:
                continue
            weight = layer.weight.data
            if isinstance(weight, DTensor):  # divided over devices
                continue
            if weight.device.type == "cpu" and weight.dtype == torch.float32:
                layer.weight.data = weight.t().contiguous().t()
