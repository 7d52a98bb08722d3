"""Measures an exported segmentation network on held-out rendered eyes.

    python evaluate.py iris_segment.onnx held/normal.raw

Prints the IoU of each class over all pixels, and for the pupil and the limbus how far the network's outline lies from the
true one. An outline is every crossing between two classes that are neighbours in the picture (pupil and iris; iris and
sclera), placed between pixels where the two logits are equal; so lids, lashes and glints do not count. The true outline
is placed half-way between the pixels. The error of a picture is the mean distance from each true point to the nearest
point of the network; "gross" are pictures where that is more than 10 px or where the network drew no outline at all.
Pictures with fewer than 40 true points (closed, cut off, no eye) are left out of the outline figures and counted.
"""
import sys

import numpy as np
import onnxruntime
from scipy.spatial import cKDTree

SIZE = (240, 320)
CLASSES = ("background", "sclera", "iris", "pupil")
OUTLINES = {"pupil": (3, 2), "limbus": (2, 1)}


def crossings(labels, logits, inner, outer):
    """Points (x, y) between neighbouring pixels of the two classes."""
    points = []
    for axis in (0, 1):
        first = [slice(None), slice(None)]
        second = [slice(None), slice(None)]
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        first, second = tuple(first), tuple(second)
        a, b = labels[first], labels[second]
        y, x = np.nonzero(((a == inner) & (b == outer)) | ((a == outer) & (b == inner)))
        share = np.full(len(y), 0.5)
        if logits is not None:
            lead = logits[inner] - logits[outer]
            p, q = lead[first][y, x], lead[second][y, x]
            share = np.clip(p / np.where(p == q, 1, p - q), 0, 1)
        points.append(np.stack([x + (share if axis == 1 else 0), y + (share if axis == 0 else 0)], 1))
    return np.concatenate(points)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    data = np.fromfile(sys.argv[2], np.uint8).reshape(-1, 2, *SIZE)
    over, union = np.zeros(4), np.zeros(4)
    errors = {name: [] for name in OUTLINES}
    skipped = {name: 0 for name in OUTLINES}
    missing = {name: 0 for name in OUTLINES}
    empty, false_iris = 0, 0
    for grey, truth in data:
        logits = session.run(["logits"], {"image": grey[None, None].astype(np.float32) / 255})[0][0]
        answer = logits.argmax(0)
        for k in range(4):
            a, b = answer == k, truth == k
            over[k] += (a & b).sum()
            union[k] += (a | b).sum()
        if not (truth == 2).any() and not (truth == 3).any():
            empty += 1
            false_iris += int((answer == 2).sum() + (answer == 3).sum() > 500)
        for name, (inner, outer) in OUTLINES.items():
            wanted = crossings(truth, None, inner, outer)
            if len(wanted) < 40:
                skipped[name] += 1
                continue
            got = crossings(answer, logits, inner, outer)
            if len(got) == 0:
                missing[name] += 1
                continue
            errors[name].append(float(cKDTree(got).query(wanted)[0].mean()))
    print(f"{sys.argv[2].split('/')[-1]}: {len(data)} pictures; IoU " + ", ".join(f"{c} {v:.4f}" for c, v in zip(CLASSES, over / np.maximum(union, 1))))
    for name, found in errors.items():
        found = np.array(found)
        counted = len(found) + missing[name]
        if counted == 0:
            continue
        gross = int((found > 10).sum()) + missing[name]
        median, high = (np.median(found), np.percentile(found, 95)) if len(found) else (float("nan"),) * 2
        print(f"  {name}: median error {median:.2f} px, 95 % below {high:.2f} px, gross {gross} of {counted} ({gross / counted:.2%}), left out {skipped[name]}")
    print(f"  pictures without iris and pupil: {empty}, of these with more than 500 px of either: {false_iris}")


if __name__ == "__main__":
    main()
