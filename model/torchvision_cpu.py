"""Make torchvision importable beside a CPU-only torch.

The torchvision of the package index is built against the CUDA build of torch; beside a CPU-only torch its
compiled operators cannot load, and since torchvision 0.17 the import then stops at registering a fake kernel
for an operator that was never defined: ``RuntimeError: operator torchvision::nms does not exist``
(https://github.com/pytorch/pytorch/issues/122494). open_clip, timm and parts of transformers import it for
its image transforms only, which are plain Python; defining the operators' schemas lets that import succeed.
Calling such an operator still fails, as it should.
"""

import importlib
import sys
import threading

import torch

# As declared in torchvision's own C++ sources (ops/nms.cpp, ops/quantized/cpu/qnms_kernel.cpp).
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_lock = threading.Lock()
_kept: list[torch.library.Library] = []  # the schemas live as long as the library object


def ensure_torchvision() -> bool:
    """Import torchvision, defining its missing operators' schemas only if the import fails for want of them.

    Call before importing open_clip, timm, transformers or sentence-transformers.

    Returns
    -------
    bool
        True where this process needed the schemas.
    """
    with _lock:
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            if "operator torchvision::" not in str(error):
                raise
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            for name, schema in _SCHEMAS.items():
                if not hasattr(torch.ops.torchvision, name):
                    library.define(schema)  # type: ignore[no-untyped-call]
            _kept.append(library)
            for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[module]  # what the failed import left half made
            importlib.import_module("torchvision")
        return bool(_kept)
