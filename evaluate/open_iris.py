"""Compares with open-iris's stages after segmentation on the same pictures, outlines and masks.

    sallyport-evaluate iris FOLDER --outlines outlines.jsonl
    python evaluate/open_iris.py FOLDER outlines.jsonl       (needs open-iris 1.11)

open-iris's own geometry, normalisation, encoder and fragile bits work on each picture; its segmentation network is replaced by our
outlines: the pupil and the iris as polygons, the eyeball as an ellipse of 1.6 x 1.02 iris radii, all that is not visible iris between the
outlines as noise. Its matching rule is run as documented: turns of up to 15 columns, the distance normalised linearly
by the common bits with mean 0.45 and gradient 0.00005. Pictures on which open-iris stops count as failures and are
left out of both sides' pairs; the script prints both.
"""
import json
import sys
from concurrent.futures import ProcessPoolExecutor

import cv2
import iris
import numpy as np
from iris.io.dataclasses import IRImage, SegmentationMap

CLASSES = {0: "eyeball", 1: "iris", 2: "pupil", 3: "eyelashes"}
TURNS = 15
MEAN, GRADIENT = 0.45, 0.00005


def segmentation(line, shape):
    """Stands where open-iris's segmentation network was."""
    height, width = shape
    planes = np.zeros((height, width, 4), np.float32)
    limbus = np.array(line["outline"]["limbus"], np.float32)
    pupil = np.array(line["outline"]["pupil"], np.float32)
    centre, radius = limbus.mean(0), np.hypot(*(limbus - limbus.mean(0)).T).mean()

    def filled(points, plane):
        cv2.fillPoly(plane, [np.round(points).astype(np.int32)], 1.0)

    ball, ring, hole = (np.zeros((height, width), np.float32) for _ in range(3))
    cv2.ellipse(ball, (tuple(map(float, centre)), (float(3.2 * radius), float(2.04 * radius)), 0), 1.0, -1)
    filled(limbus, ring)
    filled(pupil, hole)
    visible = np.zeros(height * width, bool)
    for start, length in line["outline"]["visible"]:
        visible[start : start + length] = True
    noise = ((ring > 0) & (hole == 0) & ~visible.reshape(height, width)).astype(np.float32)
    # A rim of single pixels along the outlines is rounding, not a lid; it would cost open-iris its contour points.
    noise = cv2.morphologyEx(noise, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    for at, plane in enumerate([np.maximum(ball, ring), ring, hole, noise]):
        planes[..., at] = plane
    return SegmentationMap(predictions=planes, index2class=CLASSES)


def template(task):
    folder, line = task
    if line["outline"] is None:
        return None
    grey = cv2.imread(f"{folder}/{line['picture']}", cv2.IMREAD_GRAYSCALE)
    return run(grey, segmentation(line, grey.shape))


def gabor(size, sigma_phi, sigma_rho, wave):
    """A filter of open-iris's own configuration."""
    return iris.GaborFilter(
        kernel_size=size, sigma_phi=sigma_phi, sigma_rho=sigma_rho, theta_degrees=90.0, lambda_phi=wave,
        dc_correction=True, to_fixpoints=True,
    )


def run(grey, given):
    """The documented nodes in their order, by the classes that the configuration names."""
    made = getattr(run, "nodes", None)
    if made is None:
        made = run.nodes = {
            "binarise": iris.MultilabelSegmentationBinarization(),
            "contours": iris.ContouringAlgorithm(),
            "glints": iris.SpecularReflectionDetection(),
            "interpolate": iris.ContourInterpolation(),
            "filter": iris.ContourPointNoiseEyeballDistanceFilter(),
            "orientation": iris.MomentOfArea(),
            "centres": iris.BisectorsMethod(),
            "smooth": iris.Smoothing(),
            "geometry": iris.FusionExtrapolation(),
            "union": iris.NoiseMaskUnion(),
            "normalise": iris.LinearNormalization(),
            "encode": iris.IrisEncoder(),
            "fragile": iris.FragileBitRefinement(
                value_threshold=[0.0001, 0.275, 0.08726646259971647], fragile_type="polar", maskisduplicated=False
            ),
            "bank": iris.ConvFilterBank(
                maskisduplicated=False,
                filters=[gabor([41, 21], 7, 6.13, 28.0), gabor([17, 21], 2, 5.86, 8)],
                probe_schemas=[iris.RegularProbeSchema(n_rows=16, n_cols=256)] * 2,
            ),
        }
    n = made
    image = IRImage(img_data=grey, image_id="picture", eye_side="left")
    try:
        geometry, noise = n["binarise"].run(given)
        polygons = n["contours"].run(geometry)
        glints = n["glints"].run(image)
        polygons = n["filter"].run(n["interpolate"].run(polygons), noise)
        orientation = n["orientation"].run(polygons)
        centres = n["centres"].run(polygons)
        polygons = n["geometry"].run(n["smooth"].run(polygons, centres), centres)
        noise = n["union"].run([noise, glints])
        strip = n["normalise"].run(image, noise, polygons, orientation)
        response = n["fragile"].run(n["bank"].run(strip))
        made_template = n["encode"].run(response)
    except Exception as error:  # noqa: BLE001 - whatever open-iris raises is its failure to enrol
        return str(error)[:120]
    code = np.stack([np.asarray(c) for c in made_template.iris_codes]).astype(bool)
    mask = np.stack([np.asarray(m) for m in made_template.mask_codes]).astype(bool)
    return code, mask


def scores(templates):
    """Distance of all pairs at the best turn. Codes are (filters, rows, columns, 2)."""
    codes = np.stack([t[0] for t in templates])
    masks = np.stack([t[1] for t in templates])
    count = len(codes)

    if hasattr(np, "bitwise_count"):
        word, ones = np.uint64, np.bitwise_count
    else:
        table = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)
        word, ones = np.uint16, table.take

    def packed(bits):
        return np.packbits(bits.reshape(count, -1), axis=1).view(word)

    plain_code, plain_mask = packed(codes), packed(masks)
    best = np.full((count, count), np.inf, np.float32)
    for turn in range(-TURNS, TURNS + 1):
        code, mask = packed(np.roll(codes, turn, axis=3)), packed(np.roll(masks, turn, axis=3))
        for at in range(count):
            common = plain_mask[at] & mask[at + 1 :]
            n = ones(common).sum(1, dtype=np.int64)
            different = ones((plain_code[at] ^ code[at + 1 :]) & common).sum(1, dtype=np.int64)
            raw = np.where(n > 0, different / np.maximum(n, 1), 1.0)
            value = np.maximum(0, MEAN - (MEAN - raw) * (GRADIENT * n + 0.5))
            best[at, at + 1 :] = np.minimum(best[at, at + 1 :], value)
    return best


def rates(mated, strangers):
    mated, strangers = np.sort(mated), np.sort(strangers)
    lines = []
    for fmr in (1e-2, 1e-3, 1e-4):
        threshold = strangers[max(int(fmr * len(strangers)) - 1, 0)]
        missed = int((mated > threshold).sum())
        lines.append(f"FNMR at FMR {fmr:g}: {100 * missed / len(mated):.2f} % ({missed} of {len(mated)})")
    points = np.unique(np.concatenate([mated, strangers]))
    miss = 1 - np.searchsorted(mated, points, side="right") / len(mated)
    false = np.searchsorted(strangers, points, side="right") / len(strangers)
    at = np.argmin(np.abs(miss - false))
    return f"EER {50 * (miss[at] + false[at]):.2f} %; " + "; ".join(lines)


def main():
    folder, outlines = sys.argv[1:3]
    lines = [json.loads(line) for line in open(outlines)]
    with ProcessPoolExecutor(2) as pool:
        made = list(pool.map(template, [(folder, line) for line in lines], chunksize=16))
    reasons = {}
    for one in made:
        if not isinstance(one, tuple):
            reasons[str(one)] = reasons.get(str(one), 0) + 1
    print(f"{len(made)} pictures, open-iris stopped at {sum(reasons.values())}: {reasons}")
    kept = [(line, one) for line, one in zip(lines, made) if isinstance(one, tuple)]
    best = scores([one for _, one in kept])
    who = np.array([f"{line['subject']}/{line['eye']}" for line, _ in kept])
    upper = np.triu(np.ones(best.shape, bool), 1)
    same = who[:, None] == who[None, :]
    print("open-iris, every picture:", rates(best[upper & same], best[upper & ~same]))
    passed = np.array([line["passed"] for line, _ in kept])
    both = passed[:, None] & passed[None, :] & upper
    print("open-iris, with our gate:", rates(best[both & same], best[both & ~same]))
    with open("open_iris_failures.txt", "w") as out:
        for line, one in zip(lines, made):
            if not isinstance(one, tuple):
                out.write(line["picture"] + "\n")


if __name__ == "__main__":
    main()
