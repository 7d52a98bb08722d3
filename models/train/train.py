"""Trains the iris segmentation network on rendered eyes only. One command: models/train/run.sh

Each data file is a row of (grey 240x320, labels 240x320) byte pairs as `sallyport-render training` writes them.
Stops after --minutes; the learning rate falls along a cosine over that time. Keeps a checkpoint every 250 steps.
"""
import argparse, glob, time
import numpy as np, torch, torch.nn.functional as F
from model import EyeNet, CLASSES

SIZE = (240, 320)
WEIGHT = torch.tensor([1.0, 1.0, 1.5, 3.0]).view(1, 4, 1, 1)


def load(paths):
    """Pictures and, at half size, how many of each 2x2 pixels belong to each class: targets between 0 and 1 teach edges
    between pixels."""
    pictures, targets = [], []
    for path in paths:
        raw = np.fromfile(path, np.uint8).reshape(-1, 2, *SIZE)
        pictures.append(raw[:, 0].copy())
        blocks = raw[:, 1].reshape(-1, SIZE[0] // 2, 2, SIZE[1] // 2, 2)
        target = np.zeros((len(raw), CLASSES, SIZE[0] // 2, SIZE[1] // 2), np.uint8)
        for k in range(CLASSES):
            target[:, k] = (blocks == k).sum(axis=(2, 4), dtype=np.uint8)
        targets.append(target)
    return np.concatenate(pictures), np.concatenate(targets)


def load_test(paths):
    return np.concatenate([np.fromfile(p, np.uint8).reshape(-1, 2, *SIZE) for p in paths])


def batch(data, index, rng):
    grey = torch.from_numpy(data[0][index]).float() / 255
    target = torch.from_numpy(data[1][index]).float() / 4
    n = len(index)
    flip = torch.from_numpy(rng.random(n) < 0.5)
    grey[flip] = grey[flip].flip(2)
    target[flip] = target[flip].flip(3)
    gain = torch.from_numpy(rng.uniform(0.6, 1.4, (n, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-0.12, 0.12, (n, 1, 1)).astype(np.float32))
    gamma = torch.from_numpy(np.exp(rng.normal(0, 0.25, (n, 1, 1))).astype(np.float32))
    grey = (grey * gain + shift).clamp(0, 1) ** gamma
    noise = torch.from_numpy((rng.random((n, 1, 1)) * 0.02 * (rng.random((n, 1, 1)) < 0.4)).astype(np.float32))
    grey = (grey + noise * torch.randn_like(grey)).clamp(0, 1)
    return grey.unsqueeze(1), target


def loss_of(logits, target):
    log = F.log_softmax(logits, 1)
    cross = -(WEIGHT * target * log).sum(1).mean()
    share = log.exp()
    over = (share * target).sum((2, 3))
    dice = 1 - (2 * over + 20) / (share.sum((2, 3)) + target.sum((2, 3)) + 20)
    return cross + 0.5 * dice.mean()


@torch.no_grad()
def iou(net, data):
    net.eval()
    over, union = np.zeros(CLASSES), np.zeros(CLASSES)
    for i in range(0, len(data), 16):
        part = data[i:i + 16]
        answer = net(torch.from_numpy(part[:, 0]).float().unsqueeze(1) / 255).argmax(1).numpy()
        for k in range(CLASSES):
            a, b = answer == k, part[:, 1] == k
            over[k] += (a & b).sum()
            union[k] += (a | b).sum()
    net.train()
    return over / np.maximum(union, 1)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--data", default="set/1*.raw")
    p.add_argument("--test", default="set/900.raw")
    p.add_argument("--out", default="net.pt")
    p.add_argument("--resume")
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--seed", type=int, default=20261123)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--watch", action="store_true", help="take in data files that appear while training")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    rng = np.random.default_rng(a.seed)
    net = EyeNet().to(memory_format=torch.channels_last)
    if a.resume:
        net.load_state_dict(torch.load(a.resume))
    decay = [q for q in net.parameters() if q.dim() > 1]
    rest = [q for q in net.parameters() if q.dim() <= 1]
    optimiser = torch.optim.AdamW([{"params": decay, "weight_decay": 1e-2}, {"params": rest, "weight_decay": 0.0}], lr=a.rate)
    files = sorted(glob.glob(a.data))
    data, test = load(files), load_test(sorted(glob.glob(a.test)))
    print(f"parameters {sum(q.numel() for q in net.parameters())}, images {len(data[0])}, test {len(test)}, torch {torch.__version__}, seed {a.seed}", flush=True)
    order, step, seen, start, mean = np.array([], int), 0, 0, time.time(), 0.0
    while True:
        done = (time.time() - start) / (a.minutes * 60)
        if done >= 1:
            break
        if len(order) < a.batch:
            if a.watch:
                new = sorted(glob.glob(a.data))
                if new != files:
                    more = load([f for f in new if f not in files])
                    data = tuple(np.concatenate(pair) for pair in zip(data, more))
                    files = new
                    print(f"images {len(data[0])}", flush=True)
            order = rng.permutation(len(data[0]))
        index, order = order[:a.batch], order[a.batch:]
        rate = a.rate * min(1, (step + 1) / 200) * (0.5 * (1 + np.cos(np.pi * done)) * 0.99 + 0.01)
        for g in optimiser.param_groups:
            g["lr"] = rate
        grey, target = batch(data, index, rng)
        loss = loss_of(net.half(grey), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        step += 1
        seen += len(index)
        if step % 50 == 0:
            print(f"step {step} seen {seen} minute {(time.time() - start) / 60:.1f} rate {rate:.2e} loss {mean:.4f}", flush=True)
        if step % 250 == 0:
            torch.save(net.state_dict(), a.out)
            print("IoU background sclera iris pupil", np.round(iou(net, test[:128]), 4), flush=True)
    torch.save(net.state_dict(), a.out)
    print(f"end: step {step} seen {seen}; IoU background sclera iris pupil", np.round(iou(net, test), 4), flush=True)


if __name__ == "__main__":
    main()
