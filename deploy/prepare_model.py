"""Zero the tiny weights of an ONNX file: every |w| < 1e-18 in float32 raw initialisers becomes 0.

Denormal weights make MobileFaceNet seven times slower on a CPU; the output stays identical
(biometrics.md F.3). Only bytes inside weights change, so the file keeps its length and structure.
Standard library only. Usage: prepare_model.py IN OUT
"""

import array
import sys

TINY = 1e-18
LENGTH_DELIMITED = 2


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(data, at, end):
    """Yields (field number, wire type, start, end) of each field's payload."""
    while at < end:
        key, at = varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == LENGTH_DELIMITED:
            length, at = varint(data, at)
            yield number, wire, at, at + length
            at += length
        elif wire == 0:
            start = at
            _, at = varint(data, at)
            yield number, wire, start, at
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            yield number, wire, at, at + size
            at += size
        else:
            raise SystemExit(f"not an ONNX file: wire type {wire} at byte {at}")


def main():
    source, target = sys.argv[1:]
    data = bytearray(open(source, "rb").read())
    zeroed = 0
    for number, wire, start, end in fields(data, 0, len(data)):
        if (number, wire) != (7, LENGTH_DELIMITED):  # ModelProto.graph
            continue
        for number, wire, start, end in fields(data, start, end):
            if (number, wire) != (5, LENGTH_DELIMITED):  # GraphProto.initializer
                continue
            data_type, raw = None, None
            for number, wire, first, last in fields(data, start, end):
                if (number, wire) == (2, 0):  # TensorProto.data_type
                    data_type, _ = varint(data, first)
                elif (number, wire) == (9, LENGTH_DELIMITED):  # TensorProto.raw_data
                    raw = (first, last)
            if data_type != 1 or raw is None:
                continue
            weights = array.array("f", bytes(data[raw[0] : raw[1]]))
            if sys.byteorder == "big":
                weights.byteswap()
            for index, weight in enumerate(weights):
                if weight != 0.0 and abs(weight) < TINY:
                    weights[index] = 0.0
                    zeroed += 1
            if sys.byteorder == "big":
                weights.byteswap()
            data[raw[0] : raw[1]] = weights.tobytes()
    open(target, "wb").write(data)
    print(f"{zeroed} tiny weights zeroed in {target.rsplit('/', 1)[-1]}")


main()
