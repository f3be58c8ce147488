"""Random numbers as a pure function of keys: the same draw in any batch, order, process or device.

A key is an int64; `fold` derives one from a seed and the coordinates of a draw (question, sample,
step, site). Words come from the splitmix64 finaliser (Steele, Lea and Flood 2014) over a counter,
in wrapping int64 tensor arithmetic. Uniforms and masks are integer operations, so they are
bit-identical on every device; normals go through log and cos and agree to rounding. There is no
global state.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


_GOLDEN, _MIX_1, _MIX_2 = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _xor_shift_(x: Tensor, n: int) -> Tensor:
    """x ^= x >>> n, logical shift, in place (torch's >> is arithmetic, hence the mask)."""
    return x.bitwise_xor_((x >> n).bitwise_and_((1 << (64 - n)) - 1))


def _mix_(x: Tensor) -> Tensor:
    """The splitmix64 finaliser, in place."""
    return _xor_shift_(_xor_shift_(_xor_shift_(x, 30).mul_(_MIX_1), 27).mul_(_MIX_2), 31)


def fold(key: Tensor | int, *coordinates: Tensor | int) -> Tensor:
    """A new key from a key and coordinates; ints and int64 tensors broadcast.

    `fold(fold(k, a), b) == fold(k, a, b)`.
    """
    device = next((x.device for x in (key, *coordinates) if isinstance(x, Tensor)), None)
    result = torch.as_tensor(key, dtype=torch.int64, device=device)
    for coordinate in coordinates:
        c = torch.as_tensor(coordinate, dtype=torch.int64, device=device)
        result = _mix_(_mix_((c + 1) * _GOLDEN) + result * _MIX_1)
    return result


def question_keys(seed: int, question_ids: Sequence[int | str] | Tensor) -> Tensor:
    """(Q,) int64 keys of questions.

    Strings are hashed (BLAKE2b), so that they give the same key on every machine.
    """
    ids = question_ids.tolist() if isinstance(question_ids, Tensor) else question_ids
    return fold(seed, torch.tensor([_stable_int(i) for i in ids], dtype=torch.int64))


def _stable_int(name: int | str) -> int:
    if isinstance(name, str):
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True)
    return int(name)


def _bits32(keys: Tensor, n: int) -> Tensor:
    """(R,) keys -> (R, n) int64 holding 32 random bits each.

    Column j of a row depends on the row's key and j only.
    """
    counter = torch.arange(1, (n + 1) // 2 + 1, device=keys.device, dtype=torch.int64).mul_(_GOLDEN)
    words = _mix_(counter + keys[:, None])
    halves = torch.stack((words & 0xFFFFFFFF, (words >> 32).bitwise_and_(0xFFFFFFFF)), dim=-1)
    return halves.view(len(keys), -1)[:, :n]


def uniform(keys: Tensor, n: int) -> Tensor:
    """(R, n) float32 in [0, 1), 24 bits each."""
    return (_bits32(keys, n) >> 8).float().mul_(2.0**-24)


def keep_mask(keys: Tensor, n: int, p: float) -> Tensor:
    """(R, n) bool, False with probability p: what dropout keeps."""
    return _bits32(keys, n) >= int(p * 2**32)


def normal(keys: Tensor, n: int) -> Tensor:
    """(R, n) float32 standard normal, by Box-Muller in float64 (tails to 6.6 deviations)."""
    bits = _bits32(keys, n + n % 2).double().mul_(2.0**-32).view(len(keys), -1, 2)
    radius = (bits[..., 1] + 2.0**-32).log_().mul_(-2.0).sqrt_()
    angle = bits[..., 0] * (2.0 * math.pi)
    pairs = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1)
    return pairs.view(len(keys), -1)[:, :n].float()


def sample_keys(keys: Tensor, num_samples: int) -> Tensor:
    """Question keys (Q,) -> keys (Q, N) of their trajectories."""
    return fold(keys[:, None], torch.arange(num_samples, device=keys.device))
