"""Train with Lightning: python examples/with_lightning.py MANIFEST [VIEW]  (pip install lightning)"""

import sys

import lightning
import torch
from torch import nn

import k710


class Classifier(lightning.LightningModule):
    def __init__(self, num_classes):
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv3d(3, 16, (2, 16, 16), stride=(2, 16, 16)), nn.GELU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),
            nn.Linear(16, num_classes),
        )  # fmt: skip

    def training_step(self, batch, batch_index):
        loss = nn.functional.cross_entropy(self.model(batch.pixels), batch.class_ids)
        self.log("train_loss", loss, batch_size=len(batch.class_ids), prog_bar=True)
        return loss

    def validation_step(self, batch, batch_index):
        right = (self.model(batch.pixels).argmax(1) == batch.class_ids).float().mean()
        self.log("val_accuracy", right, batch_size=len(batch.class_ids))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)

    def transfer_batch_to_device(self, batch, device, dataloader_index):
        return batch  # k710's loader has put it there


manifest = sys.argv[1]
view = sys.argv[2] if len(sys.argv) > 2 else "k710"
device = "cuda" if torch.cuda.is_available() else "cpu"
train = k710.open_dataset(manifest, view=view, split="train")
val = k710.open_dataset(manifest, view=view, split="val")
trainer = lightning.Trainer(
    max_epochs=2,
    accelerator="auto",
    devices=1,
    logger=False,
    enable_checkpointing=False,
    num_sanity_val_steps=0,  # they would count as the beginning of the first validation
)
model = Classifier(len(train.labels))
trainer.fit(
    model,
    k710.ClipLoader(train, batch_size=4, num_workers=2, device=device),
    k710.ClipLoader(val, batch_size=4, num_workers=2, device=device),
)
print(f"val accuracy {trainer.callback_metrics['val_accuracy']:.3f} after {trainer.current_epoch} epochs")
