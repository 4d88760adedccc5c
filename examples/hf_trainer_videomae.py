"""Finetune VideoMAE with Hugging Face's Trainer: python examples/hf_trainer_videomae.py MANIFEST [VIEW] [CHECKPOINT]

Needs: pip install transformers accelerate. CHECKPOINT is a model of the Hub or a folder, such as MCG-NJU/videomae-base.
Without one, a tiny model of random weights shows that everything fits together.
"""

import sys

import torch
from transformers import Trainer, TrainingArguments, VideoMAEConfig, VideoMAEForVideoClassification

import k710


class ForTransformers:
    """A ClipLoader whose batches have the names and the layout that transformers expects."""

    def __init__(self, loader):
        self.loader = loader

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for batch in self.loader:
            pixels = batch.pixels.transpose(1, 2)  # (B, 3, T, H, W) -> (B, T, 3, H, W)
            yield {"pixel_values": pixels, "labels": batch.class_ids}


class ClipTrainer(Trainer):
    """k710's loaders in place of torch's: they count epochs and augment on the device."""

    def __init__(self, *, train_loader, eval_loader, **options):
        super().__init__(**options)
        self.loaders = ForTransformers(train_loader), ForTransformers(eval_loader)

    def get_train_dataloader(self):
        return self.loaders[0]

    def get_eval_dataloader(self, eval_dataset=None):
        return self.loaders[1]


manifest = sys.argv[1]
view = sys.argv[2] if len(sys.argv) > 2 else "k710"
checkpoint = sys.argv[3] if len(sys.argv) > 3 else None
device = "cuda" if torch.cuda.is_available() else "cpu"
frames = k710.ClipOptions(num_frames=16, method="window", stride=4)  # as VideoMAE is published
train = k710.open_dataset(manifest, view=view, split="train", options=frames)
val = k710.open_dataset(manifest, view=view, split="val", options=frames)
names = {"id2label": dict(enumerate(train.labels)), "label2id": {name: i for i, name in enumerate(train.labels)}}
if checkpoint:
    model = VideoMAEForVideoClassification.from_pretrained(checkpoint, **names)
else:
    tiny = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = VideoMAEForVideoClassification(VideoMAEConfig(**tiny, **names))

trainer = ClipTrainer(
    model=model,
    args=TrainingArguments(
        output_dir="hf-trainer", num_train_epochs=2, learning_rate=1e-3, save_strategy="no", report_to=[],
        use_cpu=device == "cpu", logging_strategy="epoch", eval_strategy="epoch", disable_tqdm=True,
    ),
    train_dataset=train,
    eval_dataset=val,
    train_loader=k710.ClipLoader(train, batch_size=4, num_workers=2, device=device),
    eval_loader=k710.ClipLoader(val, batch_size=4, num_workers=2, device=device),
    compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())},
)  # fmt: skip
trainer.train()
print(trainer.evaluate())
