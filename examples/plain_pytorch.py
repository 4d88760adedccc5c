"""Train a small network in plain PyTorch: python examples/plain_pytorch.py MANIFEST [VIEW]"""

import sys

import torch
from torch import nn

import k710

manifest = sys.argv[1]
view = sys.argv[2] if len(sys.argv) > 2 else "k710"
device = "cuda" if torch.cuda.is_available() else "cpu"
train = k710.open_dataset(manifest, view=view, split="train")
val = k710.open_dataset(manifest, view=view, split="val")
train_loader = k710.ClipLoader(train, batch_size=4, num_workers=2, device=device)  # one loader for all epochs
val_loader = k710.ClipLoader(val, batch_size=4, num_workers=2, device=device)

model = nn.Sequential(
    nn.Conv3d(3, 16, (2, 16, 16), stride=(2, 16, 16)), nn.GELU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
    nn.Linear(16, len(train.labels)),
).to(device)  # fmt: skip
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

for epoch in range(2):
    for batch in train_loader:  # one epoch; the next one has another order and other frames
        loss = nn.functional.cross_entropy(model(batch.pixels), batch.class_ids)  # (4, 3, 8, 224, 224), (4,)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        correct = sum((model(batch.pixels).argmax(1) == batch.class_ids).sum().item() for batch in val_loader)
    print(f"epoch {epoch}: loss {loss.item():.3f}, {correct} of {len(val)} val clips correct")
