"""The same on several processes: torchrun --nproc-per-node 2 examples/torchrun_ddp.py MANIFEST [VIEW]

Ranks share out each global batch. A saved position continues on any number of ranks.
"""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import k710
from k710.engine.part import Share

manifest = sys.argv[1]
view = sys.argv[2] if len(sys.argv) > 2 else "k710"
on_gpu = torch.cuda.is_available()
dist.init_process_group("nccl" if on_gpu else "gloo")
rank, world_size = dist.get_rank(), dist.get_world_size()
device = f"cuda:{rank % torch.cuda.device_count()}" if on_gpu else "cpu"

options = {"device": device, "num_workers": 2, "share": Share(rank, world_size)}
train = k710.open_dataset(manifest, view=view, split="train")
val = k710.open_dataset(manifest, view=view, split="val")
train_loader = k710.ClipLoader(train, batch_size=4, **options)  # 4 clips of all ranks together
val_loader = k710.ClipLoader(val, batch_size=4, **options)

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv3d(3, 16, (2, 16, 16), stride=(2, 16, 16)), nn.GELU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
    nn.Linear(16, len(train.labels)),
).to(device)  # fmt: skip
model = DistributedDataParallel(network)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

for epoch in range(2):
    for batch in train_loader:  # this rank's part of each batch
        loss = nn.functional.cross_entropy(model(batch.pixels), batch.class_ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # In evaluation ranks may have different numbers of batches, so they meet only once, after the loop.
    counts = torch.zeros(2, device=device)
    with torch.no_grad():
        for batch in val_loader:
            right = network(batch.pixels).argmax(1) == batch.class_ids
            counts += torch.tensor([right.sum(), len(right)], device=device)
    dist.all_reduce(counts)
    if rank == 0:
        print(f"epoch {epoch}: {int(counts[0])} of {int(counts[1])} val clips correct on {world_size} processes")
        torch.save({"model": network.state_dict(), "loader": train_loader.state_dict()}, "checkpoint.pt")
dist.destroy_process_group()
