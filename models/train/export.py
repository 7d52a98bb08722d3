"""Exports the trained segmentation network to ONNX and checks that both give the same answers.

    python export.py net.pt iris_segment.onnx [set/900.raw]
"""
import sys

import numpy as np
import onnx
import onnxruntime
import torch

from model import EyeNet


def main():
    source, target = sys.argv[1:3]
    net = EyeNet()
    net.load_state_dict(torch.load(source, map_location="cpu"))
    net.eval()
    example = torch.rand(1, 1, 240, 320)
    torch.onnx.export(
        net, (example,), target, input_names=["image"], output_names=["logits"], opset_version=17,
        dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}}, dynamo=False, do_constant_folding=True,
    )
    model = onnx.load(target)
    # Nothing of the training machine stays in the file.
    for node in model.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(model)
    onnx.save(model, target)
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    pictures = [np.random.default_rng(1).random((2, 1, 240, 320), dtype=np.float32)]
    if len(sys.argv) > 3:
        raw = np.fromfile(sys.argv[3], np.uint8, count=32 * 2 * 240 * 320).reshape(-1, 2, 240, 320)
        pictures.append(raw[:, :1].astype(np.float32) / 255)
    for batch in pictures:
        with torch.no_grad():
            wanted = net(torch.from_numpy(batch)).numpy()
        got = session.run(["logits"], {"image": batch})[0]
        difference = float(np.abs(wanted - got).max())
        same = float((wanted.argmax(1) == got.argmax(1)).mean())
        print(f"parity over {len(batch)} pictures: largest logit difference {difference:.2e}, same class in {same:.6f} of pixels")
        if difference > 1e-3 or same < 0.9999:
            sys.exit("the exported network does not answer like the trained one; it was written but must not be used")


if __name__ == "__main__":
    main()
