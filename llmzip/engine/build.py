"""Puts a model on a device, with the fastest exact way of computing that is found there."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from llmzip.engine import amx, probe
from llmzip.engine.compiled import CompiledTransformer
from llmzip.engine.engine import Engine
from llmzip.engine.kernels.quads import have_instruction
from llmzip.errors import DeviceError, quoted
from llmzip.models.convert import IntegerModel
from llmzip.system import exact_threads

_log = logging.getLogger(__name__)

_DRIVERS = {"linux": ("libcuda.so.1",), "win32": ("nvcuda.dll",)}  # libraries that come with a driver for CUDA
_ROCM = "/dev/kfd"  # torch calls AMD's devices CUDA, too


def build(model: IntegerModel, device: str = "auto", threads: int | None = None, kernel: str | None = None) -> Engine:
    """An engine for a model.

    On processors everything is compiled, if compiled code proves exact here; torch is then not even imported. Otherwise, and on other devices,
    everything runs in torch, with the fastest of its products that is exact.

    Args:
        model: integer weights.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; all cores if None.
        kernel: "torch" to insist on torch, or a matrix product in `gemm.KERNELS` to insist on, for tests and experiments.

    Raises:
        DeviceError: the device is not there, or is none.
        InexactMachineError: nothing is exact on this machine.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"{quoted(device)} is no device; use auto, cpu or cuda")
    if threads is None:
        threads = exact_threads.default_threads()
    exact_threads.use_threads(threads)
    if device == "cpu" or (device == "auto" and not _may_have_cuda()):
        if kernel is None and CompiledTransformer.fits(model.config):
            for with_amx in (True, False) if have_instruction() and amx.usable() else (False,):
                with ThreadPoolExecutor(1) as beside:  # weights are arranged while the code is loaded and proven
                    ready = beside.submit(CompiledTransformer, model, threads, with_amx)
                    exact = probe.is_exact(model.config, threads, with_amx)
                if exact:
                    _log.info("all layers as one: %s", ready.result().name)
                    return ready.result()
                _log.info("compiled kernels%s are inexact on this machine and are not used", " with AMX" if with_amx else "")
            _log.info("expect it to be slow")
        return _in_torch(model, "cpu", threads, kernel)

    import torch

    if torch.cuda.is_available():
        return _in_torch(model, "cuda", threads, kernel)
    if device == "cuda":
        raise DeviceError("no CUDA device is available to this torch; use --device cpu")
    return build(model, "cpu", threads, kernel)


def _in_torch(model: IntegerModel, device: str, threads: int, kernel: str | None) -> Engine:
    import torch

    from llmzip.engine import definition, gemm
    from llmzip.engine.transformer import Transformer

    exact_threads.use_threads(threads)  # of torch, too, now that it is here
    place = torch.device(device)
    definition.prove(place)
    shapes = [tuple(w.shape) for n, w in model.tensors.items() if n == "head" or (n.startswith("0.") and w.ndim == 2)]
    return Transformer(model, gemm.choose(shapes, place, None if kernel == "torch" else kernel), place, threads)


def _may_have_cuda() -> bool:
    """Whether it is worth asking torch, which takes long to import."""
    if os.path.exists(_ROCM):
        return True
    for name in _DRIVERS.get(sys.platform, ()):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False
