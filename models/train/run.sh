#!/bin/sh
# Renders the data, trains the segmentation network, exports it and measures it. No picture of a person is used.
#   models/train/run.sh [FOLDER]     data and network go to FOLDER (default /tmp/sallyport-train, 1.5 GB)
# MINUTES=54 THREADS=2 PYTHON=python3 can be set. PYTHON needs models/train/requirements.txt.
# The drawn data are the same bytes every time. The network is not: how many steps fit into MINUTES depends on the machine.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-/tmp/sallyport-train}
python=${PYTHON:-python3}
if ! "$python" -c 'import torch, onnx, onnxruntime, scipy' 2>/dev/null; then
    echo "run.sh: $python lacks a package. Make an environment and install models/train/requirements.txt, then set PYTHON." >&2
    exit 1
fi
cd "$here/../.."
cargo build --release -p sallyport-render
draw="${CARGO_TARGET_DIR:-target}/release/sallyport-render"
mkdir -p "$folder/train" "$folder/held"
render() { [ -f "$3" ] || "$draw" training --kind "$1" --count "$2" --out "$3" --seed "$4"; }
for seed in 101 102 103 104 105 106; do render training 1000 "$folder/train/$seed.raw" "$seed"; done
for seed in 107 108; do render dark 800 "$folder/train/$seed.raw" "$seed"; done
# Seeds of the held-out pictures are never trained on.
render training 400 "$folder/held/900.raw" 900
render training 500 "$folder/held/training.raw" 9100
render normal 1000 "$folder/held/normal.raw" 9101
render hard 1000 "$folder/held/hard.raw" 9102
render dark 300 "$folder/held/dark.raw" 9103
cd "$here"
"$python" train.py --data "$folder/train/1*.raw" --test "$folder/held/900.raw" --out "$folder/net.pt" \
    --minutes "${MINUTES:-54}" --threads "${THREADS:-2}" | tee "$folder/train.log"
"$python" export.py "$folder/net.pt" "$folder/iris_segment.onnx" "$folder/held/900.raw" | tee -a "$folder/train.log"
for kind in normal hard training dark; do
    "$python" evaluate.py "$folder/iris_segment.onnx" "$folder/held/$kind.raw" | tee -a "$folder/train.log"
done
sha256sum "$folder/iris_segment.onnx"
echo "To ship it: copy it to models/iris_segment.onnx and write this sum into models/manifest.toml and models/README.md."
