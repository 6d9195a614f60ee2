"""The exact inference engine: integer matrix products, and operations that round the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmzip.errors import DeviceError

if TYPE_CHECKING:
    from llmzip.engine.transformer import Transformer
    from llmzip.models.convert import IntegerModel


def build(
    model: IntegerModel, device: str = "auto", threads: int | None = None, kernel: str | None = None, ops: str | None = None
) -> Transformer:
    """Puts a model on a device with the fastest exact kernel found there.

    Args:
        model: integer weights.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; all cores if None.
        kernel: a name in `gemm.KERNELS` to insist on (for tests and experiments).
        ops: "numba" or "torch"; numba on CPU if None and if it proves exact here.

    Raises:
        DeviceError: the device is not there.
        InexactMachineError: no matrix product is exact on this machine.
    """
    import torch

    from llmzip.engine import gemm
    from llmzip.engine.cache import KEY_BLOCK
    from llmzip.engine.probe import operations_agree
    from llmzip.engine.torch_ops import TorchOps
    from llmzip.engine.transformer import Transformer

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("no CUDA device is available to this torch; use --device cpu")
    torch.set_float32_matmul_precision("highest")  # products of integers in float32 must keep every bit
    if threads is None:
        threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    place = torch.device(device)
    c = model.config
    shapes = [(w.shape[0], w.shape[1]) for n, w in model.tensors.items() if n == "head" or (n.startswith("0.") and w.ndim == 2)]
    product: gemm.Gemm = gemm.choose(shapes, place, kernel)
    operations: Any = TorchOps(c)
    if ops == "numba" or (ops is None and device == "cpu" and c.head_dim % KEY_BLOCK == 0):
        from llmzip.engine.compiled_gemm import SmallBatchGemm
        from llmzip.engine.numba_ops import NumbaOps

        compiled = NumbaOps(c, threads)
        if ops or operations_agree(compiled, operations, c):
            operations = compiled
        small = SmallBatchGemm(product, threads)
        if kernel is None and gemm.is_exact(small, sorted(set(shapes)), place):
            product = small
    return Transformer(model, product, operations, place, threads)
