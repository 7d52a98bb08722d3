#!/usr/bin/env python3
"""Writes models/iris_encode.onnx: the iris encoder, whose weights follow from the parameters below. Nothing is trained.

  python models/train/make_iris_encoder.py [models/iris_encode.onnx]

Needs numpy and onnx. The same parameters give the same bytes. crates/vision/src/iris/encode.rs holds the same encoder
in plain Rust; its test compares the two bit for bit. After a change put the new SHA-256 into models/manifest.toml; every
reference must then be enrolled again, since templates of different encoders are never compared.

Input   strip, mask  N x 1 x 64 x 512 f32: grey values 0..255, and 1 where the pixel shows iris, else 0
Output  code, valid  N x 64 x 128 f32 of 0 and 1; ring (scale * 2 + part) * 16 + row
"""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROWS, COLUMNS = 64, 512
CODE_ROWS, CODE_COLUMNS = 16, 128
WAVELENGTHS = (36, 18)  # strip columns
RADIAL_SIGMA = 3.0  # strip rows
ENVELOPE = 0.28  # Gaussian sigma per wavelength
MIN_SHOWN = 0.9  # of the columns within a quarter wavelength
FRAGILE_SHARE = 0.2  # the weakest components per scale and part
MIN_RADIAL_SHOWN = 0.05  # below this share a column of a code row has no value of its own


def radial_weights():
    centres = (np.arange(CODE_ROWS) + 0.5) * (ROWS / CODE_ROWS) - 0.5
    weights = np.exp(-0.5 * ((np.arange(ROWS)[None] - centres[:, None]) / RADIAL_SIGMA) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def gabor(wavelength, reach):
    """Real and imaginary taps, no response to a constant, zero beyond one wavelength."""
    at = np.arange(-reach, reach + 1, dtype=np.float64)
    inside = np.abs(at) <= wavelength
    envelope = np.exp(-0.5 * (at / (ENVELOPE * wavelength)) ** 2) * inside
    envelope /= envelope.sum()
    carrier = 2 * np.pi * at / wavelength
    real = envelope * (np.cos(carrier) - (envelope * np.cos(carrier)).sum())
    return real, envelope * np.sin(carrier)


def flat(wavelength, reach):
    at = np.arange(-reach, reach + 1)
    inside = (np.abs(at) <= wavelength // 4).astype(np.float64)
    return inside / inside.sum()


def graph():
    reach = max(WAVELENGTHS)
    nodes, constants = [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    columns = constant("axis_columns", np.array([3], np.int64))
    rows = constant("axis_rows", np.array([2], np.int64))
    one = constant("one", np.array(1.0, np.float32))
    half = constant("half", np.array(0.5, np.float32))

    # Brightness of a row is no texture: every row is taken relative to the mean of its shown pixels.
    shown_of_row = node("ReduceSum", ["mask", columns], "shown_of_row", keepdims=1)
    masked = node("Mul", ["strip", "mask"], "masked")
    sum_of_row = node("ReduceSum", [masked, columns], "sum_of_row", keepdims=1)
    row_mean = node("Div", [sum_of_row, node("Max", [shown_of_row, one], "shown_of_row_1")], "row_mean")
    relative = node("Mul", [node("Sub", ["strip", row_mean], "difference"), "mask"], "relative")

    # Radial smoothing by what is shown (normalised convolution).
    weights = constant("radial_weights", radial_weights())
    weight_sum = node("MatMul", [weights, "mask"], "weight_sum")
    value_sum = node("MatMul", [weights, relative], "value_sum")
    least = constant("min_radial_shown", np.array(MIN_RADIAL_SHOWN, np.float32))
    mean = node("Div", [value_sum, node("Max", [weight_sum, least], "weight_sum_1")], "mean")
    enough = node("Greater", [weight_sum, least], "enough")
    zero = constant("zero", np.array(0.0, np.float32))
    smooth = node("Where", [enough, mean, zero], "smooth")

    def around(source, name):
        """The circle closes: `reach` columns of each end are repeated at the other."""
        def cut(part, start, end):
            return node(
                "Slice",
                [
                    source,
                    constant(f"{name}_{part}_start", np.array([start], np.int64)),
                    constant(f"{name}_{part}_end", np.array([end], np.int64)),
                    columns,
                ],
                f"{name}_{part}",
            )

        return node(
            "Concat", [cut("last", COLUMNS - reach, COLUMNS), source, cut("first", 0, reach)], name, axis=3
        )

    step = COLUMNS // CODE_COLUMNS
    taps = np.stack([taps for wavelength in WAVELENGTHS for taps in gabor(wavelength, reach)])
    component = node(
        "Conv",
        [around(smooth, "smooth_around"), constant("gabor", taps[:, None, None].astype(np.float32))],
        "component",
        strides=[1, step],
    )
    boxes = np.stack([flat(wavelength, reach) for wavelength in WAVELENGTHS for _ in range(2)])
    shown = node(
        "Conv",
        [around(weight_sum, "shown_around"), constant("boxes", boxes[:, None, None].astype(np.float32))],
        "shown",
        strides=[1, step],
    )
    visible = node("Greater", [shown, constant("min_shown", np.array(MIN_SHOWN, np.float32))], "visible")

    # Fragile bits: the quantile of |component| among the visible ones of this template, per scale and part.
    size = node("Abs", [component], "size")
    listed = node(
        "Reshape",
        [
            node("Where", [visible, size, constant("absent", np.array(-1.0, np.float32))], "size_or_absent"),
            constant("list_shape", np.array([0, 2 * len(WAVELENGTHS), CODE_ROWS * CODE_COLUMNS], np.int64)),
        ],
        "listed",
    )
    nodes.append(
        helper.make_node(
            "TopK",
            [listed, constant("all", np.array([CODE_ROWS * CODE_COLUMNS], np.int64))],
            ["descending", "descending_at"],
            name="descending",
            axis=2,
            largest=1,
            sorted=1,
        )
    )
    visible_f = node("Cast", [visible], "visible_f", to=TensorProto.FLOAT)
    count = node(
        "ReduceSum",
        [visible_f, constant("axes_ring", np.array([2, 3], np.int64))],
        "count",
        keepdims=1,
    )
    # From the top: count - 1 - round((count - 1) * share), as the plain Rust does from the bottom.
    last = node("Max", [node("Sub", [count, one], "count_less_1"), zero], "last")
    below = node("Floor", [node("Add", [node("Mul", [last, constant("fragile_share", np.array(FRAGILE_SHARE, np.float32))], "share"), half], "share_up")], "below")
    index = node("Cast", [node("Sub", [last, below], "from_top")], "index", to=TensorProto.INT64)
    index = node("Squeeze", [index, columns], "index_of_list")
    fragile = node("GatherElements", ["descending", index], "fragile", axis=2)
    fragile = node("Unsqueeze", [fragile, columns], "fragile_of_ring")
    steady = node("Greater", [size, fragile], "steady")
    valid = node("Cast", [node("And", [visible, steady], "valid_bool")], "valid_f", to=TensorProto.FLOAT)
    code = node("Cast", [node("Greater", [component, zero], "code_bool")], "code_f", to=TensorProto.FLOAT)
    rings = constant("rings", np.array([0, 2 * len(WAVELENGTHS) * CODE_ROWS, CODE_COLUMNS], np.int64))
    node("Reshape", [code, rings], "code")
    node("Reshape", [valid, rings], "valid")

    def tensor(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    return helper.make_graph(
        nodes,
        "iris_encode",
        [tensor("strip", ["batch", 1, ROWS, COLUMNS]), tensor("mask", ["batch", 1, ROWS, COLUMNS])],
        [tensor("code", ["batch", 64, CODE_COLUMNS]), tensor("valid", ["batch", 64, CODE_COLUMNS])],
        constants,
    )


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "models/iris_encode.onnx"
    model = helper.make_model(
        graph(), opset_imports=[helper.make_opsetid("", 17)], producer_name="make_iris_encoder.py", ir_version=8
    )
    onnx.checker.check_model(model, full_check=True)
    with open(path, "wb") as file:
        file.write(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
