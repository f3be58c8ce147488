"""Which of PyTorch's attention kernels a training may use."""

import torch


def without_cudnn_attention() -> None:
    """Turns off cuDNN's attention, whose gradients are not always numbers.

    On an H100 or H200 in half precision, gradients of queries under a mask are NaN for some lengths
    of the batch (https://github.com/pytorch/pytorch/issues/196678). The other kernels are not
    affected. It holds for the whole process.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
