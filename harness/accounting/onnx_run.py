"""ONNX operators that the reference evaluator is too slow at, or wrong about.

Everything else is left to :mod:`onnx.reference`, a node at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_conv_transpose import ConvTranspose as SlowConvTranspose
from onnx.reference.ops.op_layer_normalization import LayerNormalization as SlowLayerNormalization
from onnx.reference.ops.op_max_pool import MaxPool as SlowMaxPool
from onnx.reference.ops.op_resize import Resize as SlowResize

from harness.accounting import kernels

Array = kernels.Array
Result = tuple[Array, ...]


def spread(
    auto_pad: str | None,
    pads: list[int] | None,
    sizes: tuple[int, ...],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial dimension."""
    rank = len(sizes)
    if auto_pad in (None, "", "NOTSET"):
        pads = list(pads) if pads else [0] * (2 * rank)
        return pads[:rank], pads[rank:]
    if auto_pad == "VALID":
        return [0] * rank, [0] * rank
    total = [
        max((-(-size // stride) - 1) * stride + (extent - 1) * dilation + 1 - size, 0)
        for size, extent, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    less, more = [pad // 2 for pad in total], [-(-pad // 2) for pad in total]
    return (more, less) if auto_pad == "SAME_LOWER" else (less, more)


class Conv(OpRun):  # type: ignore[misc]
    def _run(
        self, x: Array, w: Array, b: Array | None = None, auto_pad: str | None = None,
        dilations: list[int] | None = None, group: int | None = None,
        kernel_shape: list[int] | None = None, pads: list[int] | None = None,
        strides: list[int] | None = None,
    ) -> Result:  # fmt: skip
        rank = x.ndim - 2
        kernel = list(w.shape[2:])
        if kernel_shape and list(kernel_shape) != kernel:
            raise ValueError("kernel_shape is not the weights'")
        strides, dilations = list(strides or [1] * rank), list(dilations or [1] * rank)
        begins, ends = spread(auto_pad, pads, x.shape[2:], kernel, strides, dilations)
        result = kernels.convolve(x, w, strides, begins, ends, dilations, group or 1)
        return (result if b is None else result + b.reshape(1, -1, *[1] * rank),)


class ConvTranspose(SlowConvTranspose):  # type: ignore[misc]
    def _run(
        self, x: Array, w: Array, b: Array | None = None, auto_pad: str | None = None,
        dilations: list[int] | None = None, group: int | None = None,
        kernel_shape: list[int] | None = None, output_padding: list[int] | None = None,
        output_shape: list[int] | None = None, pads: list[int] | None = None,
        strides: list[int] | None = None,
    ) -> Result:  # fmt: skip
        rank = x.ndim - 2
        if output_shape or auto_pad not in (None, "", "NOTSET", "VALID"):
            slow: Result = super()._run(
                x, w, b, auto_pad, dilations, group, kernel_shape, output_padding, output_shape,
                pads, strides,
            )  # fmt: skip
            return slow
        begins, ends = spread(auto_pad, pads, x.shape[2:], [], [], [])
        result = kernels.convolve_transposed(
            x, w, list(strides or [1] * rank), begins, ends, list(dilations or [1] * rank),
            group or 1, list(output_padding or [0] * rank),
        )  # fmt: skip
        return (result if b is None else result + b.reshape(1, -1, *[1] * rank),)


class MaxPool(SlowMaxPool):  # type: ignore[misc]
    def _run(
        self, x: Array, auto_pad: str | None = None, ceil_mode: int | None = None,
        dilations: list[int] | None = None, kernel_shape: list[int] | None = None,
        pads: list[int] | None = None, storage_order: int | None = None,
        strides: list[int] | None = None,
    ) -> Result:  # fmt: skip
        if len(self.onnx_node.output) != 1 or not kernel_shape:
            slow: Result = super()._run(
                x, auto_pad, ceil_mode, dilations, kernel_shape, pads, storage_order, strides
            )
            return slow
        rank = len(kernel_shape)
        strides, dilations = list(strides or [1] * rank), list(dilations or [1] * rank)
        begins, ends = spread(auto_pad, pads, x.shape[2:], kernel_shape, strides, dilations)
        if ceil_mode:
            ends = rounded_up(x.shape[2:], kernel_shape, strides, dilations, begins, ends)
        return (kernels.largest(x, kernel_shape, strides, begins, ends, dilations),)


def rounded_up(
    sizes: tuple[int, ...],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    begins: list[int],
    ends: list[int],
) -> list[int]:
    """``ends`` with what ceil_mode adds; a window that starts past the data is left out."""
    found = []
    for size, extent, stride, dilation, begin, end in zip(
        sizes, kernel, strides, dilations, begins, ends, strict=True
    ):
        over = kernels.overrun(size, extent, stride, dilation, begin + end)
        reach = (extent - 1) * dilation + 1
        start = size + begin + end + over - reach
        found.append(end + (over if start < size + begin else over - stride))
    return found


class GlobalMaxPool(OpRun):  # type: ignore[misc]
    """The reference evaluator takes the wrong dimensions unless there are two spatial ones."""

    def _run(self, x: Array) -> Result:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class BatchNormalization(OpRun):  # type: ignore[misc]
    """Inference only. The reference evaluator trains at opsets 9 to 13 whatever is asked for."""

    def _run(
        self, x: Array, scale: Array, b: Array, mean: Array, var: Array,
        epsilon: float | None = None, spatial: int | None = None,
        training_mode: int | None = None, **_: Any,
    ) -> Result:  # fmt: skip
        if (
            training_mode
            or spatial == 0
            or len([name for name in self.onnx_node.output if name]) > 1
        ):
            raise NotImplementedError("batch normalization that trains")
        shape = [1, -1] + [1] * (x.ndim - 2)
        factor = scale / np.sqrt(var + (1e-5 if epsilon is None else epsilon))
        return ((x - mean.reshape(shape)) * factor.reshape(shape) + b.reshape(shape),)


class Erf(OpRun):  # type: ignore[misc]
    def _run(self, x: Array) -> Result:
        return (kernels.erf(x),)


class GatherElements(OpRun):  # type: ignore[misc]
    """The reference evaluator fails where one index of several elements is of a single row."""

    def _run(self, x: Array, indices: Array, axis: int | None = None) -> Result:
        place = (axis or 0) % x.ndim
        size = x.shape[place]
        if indices.ndim != x.ndim or ((indices < -size) | (indices >= size)).any():
            raise ValueError("indices that do not fit")
        cut = tuple(
            slice(None) if at == place else slice(many) for at, many in enumerate(indices.shape)
        )
        return (np.take_along_axis(x[cut], indices % max(size, 1), axis=place),)


class HardSwish(OpRun):  # type: ignore[misc]
    """The reference evaluator's sixth is a float32's: near -3, where it cancels, that shows."""

    def _run(self, x: Array) -> Result:
        return (x * np.clip(x / 6 + 0.5, 0, 1),)


class LRN(OpRun):  # type: ignore[misc]
    """The reference evaluator leaves channels out of the sums."""

    def _run(
        self, x: Array, alpha: float | None = None, beta: float | None = None,
        bias: float | None = None, size: int | None = None,
    ) -> Result:  # fmt: skip
        if not size or size < 1:
            raise ValueError("no size")
        before = min((size - 1) // 2, x.shape[1])
        after = min(size - 1 - (size - 1) // 2, x.shape[1])
        squares = np.pad(x**2, [(0, 0), (before + 1, after), *[(0, 0)] * (x.ndim - 2)])
        sums = np.cumsum(squares, axis=1)
        sums = sums[:, before + after + 1 :] - sums[:, : x.shape[1]]
        scale = (0.0001 if alpha is None else alpha) / size
        return (
            x
            / ((1.0 if bias is None else bias) + scale * sums) ** (0.75 if beta is None else beta),
        )


class LayerNormalization(SlowLayerNormalization):  # type: ignore[misc]
    def _run(
        self, x: Array, scale: Array, b: Array | None = None, axis: int | None = None,
        epsilon: float | None = None, **_: Any,
    ) -> Result:  # fmt: skip
        result: Result = super()._run(x, scale, b, axis, epsilon, stash_type=1)
        return result


PLAIN = {"half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"}


class Resize(SlowResize):  # type: ignore[misc]
    def _run(self, x: Array, *inputs: Array | None, **attributes: Any) -> Result:
        given = {name: value for name, value in attributes.items() if value is not None}
        slow: Result
        mode = given.get("mode", "nearest")
        mode = mode.decode() if isinstance(mode, bytes) else mode
        coordinates = given.get("coordinate_transformation_mode", "half_pixel")
        policy = given.get("keep_aspect_ratio_policy", "stretch")
        if (
            given.get("antialias")
            or coordinates not in PLAIN
            or policy != "stretch"
            or mode not in {"nearest", "linear", "cubic"}
        ):
            slow = super()._run(x, *inputs, **attributes)
            return slow
        if len(inputs) < 2:  # opset 10: one way only, and no attribute for it
            inputs, coordinates, given = (None, *inputs), "asymmetric", {"nearest_mode": "floor"}
        _, scales, sizes, *_ = (*inputs, None, None, None)
        axes = list(given.get("axes") or range(x.ndim))
        result = x
        for i, axis in enumerate(axes):
            size = x.shape[axis]
            if sizes is not None and len(sizes):
                target = int(sizes[i])
                scale = target / size
            elif scales is not None:
                scale = float(scales[i])
                target = int(np.floor(size * scale + 1e-9))
            else:
                raise ValueError("neither scales nor sizes")
            if target == size and scale == 1:
                continue
            at = kernels.coordinates(coordinates, size, target, scale)
            result = kernels.resized(
                result, axis, at, mode, given.get("nearest_mode", "round_prefer_floor"),
                given.get("cubic_coeff_a", -0.75), bool(given.get("exclude_outside", 0)),
            )  # fmt: skip
        return (result,)


class AveragePool(OpRun):  # type: ignore[misc]
    def _run(
        self, x: Array, auto_pad: str | None = None, ceil_mode: int | None = None,
        count_include_pad: int | None = None, dilations: list[int] | None = None,
        kernel_shape: list[int] | None = None, pads: list[int] | None = None,
        strides: list[int] | None = None,
    ) -> Result:  # fmt: skip
        if not kernel_shape:
            raise ValueError("no kernel_shape")
        rank = len(kernel_shape)
        strides, dilations = list(strides or [1] * rank), list(dilations or [1] * rank)
        begins, ends = spread(auto_pad, pads, x.shape[2:], kernel_shape, strides, dilations)
        over = [0] * rank
        if ceil_mode:
            more = rounded_up(x.shape[2:], kernel_shape, strides, dilations, begins, ends)
            over = [wide - end for wide, end in zip(more, ends, strict=True)]
        result = kernels.average(
            x, kernel_shape, strides, begins, ends, dilations,
            outside=bool(count_include_pad), over=over,
        )  # fmt: skip
        return (result,)


class DequantizeLinear(OpRun):  # type: ignore[misc]
    """The reference evaluator has no version before 19, and computes in float32."""

    def _run(
        self, x: Array, scale: Array, zero: Array | None = None, axis: int | None = None,
        block_size: int | None = None, output_dtype: int | None = None,
    ) -> Result:  # fmt: skip
        if block_size or x.dtype.kind not in "iu" or output_dtype not in FLOATING:
            raise NotImplementedError("dequantization by blocks, of floats or to another type")
        away = x.astype(np.float64)
        if zero is not None:
            away = away - along(np.asarray(zero, np.float64), x, axis)
        return (away * along(np.asarray(scale, np.float64), x, axis),)


class QuantizeLinear(OpRun):  # type: ignore[misc]
    def _run(
        self, x: Array, scale: Array, zero: Array | None = None, axis: int | None = None,
        saturate: int | None = None, block_size: int | None = None,
        output_dtype: int | None = None, precision: int | None = None,
    ) -> Result:  # fmt: skip
        del saturate  # says something of 8-bit floats only
        kind = np.dtype(np.uint8) if zero is None else zero.dtype
        if output_dtype:
            kind = helper.tensor_dtype_to_np_dtype(output_dtype)
        if block_size or kind.kind not in "iu" or precision not in FLOATING:
            raise NotImplementedError("quantization by blocks, or to another type")
        found = np.rint(x / along(np.asarray(scale, np.float64), x, axis))
        if zero is not None:
            found = found + along(np.asarray(zero, np.float64), x, axis)
        limits = np.iinfo(kind)
        return (np.clip(found, limits.min, limits.max).astype(kind),)


FLOATING = {None, TensorProto.UNDEFINED, TensorProto.FLOAT, TensorProto.DOUBLE}


def along(value: Array, data: Array, axis: int | None) -> Array:
    """A number, or one for each index of an axis (by default the second), to go with data."""
    if value.size == 1:
        return value.reshape(())
    place = (1 if axis is None else axis) % data.ndim
    if value.shape != (data.shape[place],):
        raise ValueError("scales or zero points that do not fit the axis")
    shape = [1] * data.ndim
    shape[place] = -1
    return value.reshape(shape)


OWN: list[type[OpRun]] = [
    BatchNormalization, Conv, ConvTranspose, Erf, MaxPool, AveragePool, GlobalMaxPool,
    GatherElements, HardSwish, LRN, LayerNormalization, Resize, DequantizeLinear, QuantizeLinear,
]  # fmt: skip
for operator in OWN:
    operator.op_domain = ""
