"""The exact inference engine: integer matrix products, and operations that round the same everywhere."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from llmzip.engine.cache import KEY_BLOCK
from llmzip.errors import DeviceError

if TYPE_CHECKING:
    from llmzip.engine.operations import Operations
    from llmzip.engine.transformer import Transformer
    from llmzip.models.convert import IntegerModel

_log = logging.getLogger(__name__)


def build(
    model: IntegerModel, device: str = "auto", threads: int | None = None, kernel: str | None = None, ops: str | None = None
) -> Transformer:
    """Put a model on a device, with the fastest exact way of computing that is found there.

    Args:
        model: integer weights.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; all cores if None.
        kernel: name of a matrix product in `gemm.KERNELS` to insist on, for tests and experiments.
        ops: "fused", "numba" or "torch" to insist on, likewise. If None, the first of them that proves exact here; beside "fused", the
            next one is used for calls with so many rows that the kernel's products are faster.

    Raises:
        DeviceError: the device is not there.
        InexactMachineError: no matrix product is exact on this machine.
    """
    import torch

    from llmzip.engine import gemm
    from llmzip.engine.probe import agree, prove_definition, small_model
    from llmzip.engine.torch_ops import TorchOps
    from llmzip.engine.transformer import Transformer
    from llmzip.system import exact_threads

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("no CUDA device is available to this torch; use --device cpu")
    if threads is None:
        threads = exact_threads.default_threads()
    exact_threads.use_threads(threads)
    place = torch.device(device)
    prove_definition(place)
    shapes = [tuple(w.shape) for n, w in model.tensors.items() if n == "head" or (n.startswith("0.") and w.ndim == 2)]
    product: gemm.Gemm = gemm.choose(shapes, place, kernel)
    if device != "cpu" or ops == "torch" or model.config.head_dim % KEY_BLOCK:
        return Transformer(model, product, TorchOps(model.config), place, threads)

    from llmzip.engine import amx
    from llmzip.engine.fused import FusedLayers, faster_up_to
    from llmzip.engine.kernels.layers import MANY_ROWS
    from llmzip.engine.kernels.quads import have_instruction
    from llmzip.engine.numba_ops import NumbaOps

    small = small_model(model.config)

    def engine(m: IntegerModel, operations: Operations, rows: int = 0, tiles: bool = False) -> Transformer:
        return Transformer(m, product, operations, place, threads, FusedLayers(m, threads, tiles) if rows else None, rows)

    def exact(operations: Operations, rows: int = 0, tiles: bool = False) -> bool:
        definition = Transformer(small, gemm.KERNELS["float64"], TorchOps(small.config), place, threads)
        try:
            if agree(engine(small, operations, rows, tiles), definition, MANY_ROWS * threads):
                return True
        except Exception:  # broken code may raise anything
            _log.debug("compiled kernels failed", exc_info=True)
        usual = "are inexact on this machine and are not used; expect it to be slow"
        _log.info("compiled kernels %s", "with AMX are inexact on this machine; those without it are tried" if tiles else usual)
        return False

    operations: Operations = TorchOps(model.config)
    most_rows, tiles = 0, False
    if ops != "numba" and kernel is None and FusedLayers.fits(model):
        tiles = have_instruction() and amx.usable() and exact(TorchOps(small.config), sys.maxsize, True)
        if tiles or exact(TorchOps(small.config), sys.maxsize):
            most_rows = sys.maxsize if have_instruction() else faster_up_to(product, model, threads)
    if most_rows < sys.maxsize and exact(NumbaOps(small.config, threads)):
        operations = NumbaOps(model.config, threads)
    rows = f" up to {most_rows} rows, else one by one ({operations.name}; {product.name} products)"
    if most_rows == sys.maxsize:
        rows = ", with AMX" if tiles else ""
    _log.info("operations of a layer: compiled as one%s", rows)
    return engine(model, operations, most_rows, tiles)
