"""ClipLoader: batches of a dataset of clips, or of a mix, on a device, augmented, in an order that resumes exactly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from k710.engine.part import Share
from k710.errors import K710Error, UsageError
from k710.loading.augment.augment import Augment
from k710.loading.augment.mix import Mix
from k710.loading.batch import PackedBatch, pack_clips
from k710.loading.dataset import ClipDataset
from k710.loading.epochs import EpochWatch, check_epoch
from k710.loading.finish import Finish
from k710.loading.kept_features import FeatureReader
from k710.loading.mixed_dataset import MixedDataset
from k710.loading.order import EvaluationBatches, Sample, TrainBatches
from k710.loading.workers import FailedClips, WorkerDiedError, as_it_is, checked_batches, worker_options
from k710.random_key import Ints


class ClipLoader:
    """Iterate over it for the batches of one epoch: `Batch`es, or with `packed` the workers' uint8 as PackedBatch.

    In training an epoch continues from the position, in the order of `EpochOrder`. The position moves with every batch
    that is given out, and after the last batch it is the beginning of the next epoch. So make one loader and iterate
    over it once for each epoch. A new loader begins at `epoch`, by default 0; where it repeats an epoch that an earlier
    loader gave out, there is a RepeatedEpochWarning. `state_dict` saves the position and `load_state_dict` goes to it,
    on any number of ranks and workers. In evaluation every view of every clip comes once, all views of a clip on one
    rank. `num_failed` counts the samples of weight 0.

    `batch_size` is the global one, over all ranks of `share` and, in training, all `num_pieces` of a step that
    accumulates gradients. `augment` is applied in training; evaluation takes its crop_px, mean and std. `mix` mixes
    clips, `num_repeats` makes several samples of each. `features` are read instead of clips, and batches have them
    instead of pixels; they are of the views, so training must show fixed ones. `only`: in evaluation, positions of the
    clips that are shown. `whole_frames`: whether workers decode stored frames whole, by default with `packed` alone;
    else they decode the part that the augmentation needs, and the batches are the same. Raises UsageError where these
    contradict one another.
    """

    def __init__(
        self,
        dataset: ClipDataset | MixedDataset,
        *,
        batch_size: int,
        device: str | torch.device = "cpu",
        num_workers: int = 0,
        augment: Augment | None = None,
        mix: Mix | None = None,
        share: Share | None = None,
        num_repeats: int = 1,
        num_pieces: int = 1,
        epoch: int | None = None,
        prefetch: int = 2,
        start_method: str | None = None,
        dtype: torch.dtype = torch.float32,
        packed: bool = False,
        features: FeatureReader | None = None,
        only: Ints | None = None,
        whole_frames: bool | None = None,
    ) -> None:
        self.dataset, self.device, self._packed = dataset, torch.device(device), packed
        share = share or Share()
        if not dataset.training and (mix is not None or num_repeats != 1 or num_pieces != 1):
            raise UsageError("mix, num_repeats and num_pieces belong to training; this dataset is for evaluation")
        if features is not None and (dataset.draws_frames or mix is not None):
            raise UsageError("features are kept of fixed views; random frames and mixed clips have none")
        begin_epoch = check_epoch(epoch, training=dataset.training)
        self._finish = Finish(augment or Augment(), mix, dataset.draws_frames, len(dataset.labels), dtype)
        self._batches: TrainBatches | EvaluationBatches
        if dataset.training:
            order = dataset.order(num_repeats)
            self._batches = TrainBatches(order, batch_size=batch_size, share=share, num_pieces=num_pieces)
            self._batches.epoch = begin_epoch
            described = (dataset.fingerprint, dataset.reader, self._finish.augment, mix, num_repeats, share)
            self._watch = EpochWatch(repr(described), len(dataset), wanted=epoch is not None)
        else:
            # A batch_size below 1 must stay below 1, so that it is refused.
            size, views = max(batch_size // share.world_size, min(batch_size, 1)), len(dataset.views)
            num_clips = len(dataset) if only is None else len(only)
            self._batches = EvaluationBatches(num_clips, num_views=views, batch_size=size, share=share, only=only)
        self._features, self._whole_frames = features, packed if whole_frames is None else whole_frames
        self.num_failed, self._failed = 0, FailedClips()
        self._workers = worker_options(self.device, num_workers, prefetch=prefetch, start_method=start_method)
        self._loader: DataLoader[Any] | None = None

    def __len__(self) -> int:
        """Batches from the position to the end of the epoch."""
        return len(self._batches)

    @property
    def epoch(self) -> int:
        """The epoch that the next batch belongs to; 0 in evaluation."""
        return self._batches.epoch if isinstance(self._batches, TrainBatches) else 0

    def state_dict(self) -> dict[str, Any]:
        """The position: batches that were given out count as consumed. The same on every rank. Raises UsageError in
        evaluation."""
        return self._training_batches().state_dict() | {"fingerprint": self.dataset.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position. Raises UsageError for one in another order, or of other clips, classes or bytes."""
        batches = self._training_batches()
        if state["fingerprint"] != self.dataset.fingerprint:
            raise UsageError("the saved position is one in other clips: the store or the manifest has changed since")
        batches.load_state_dict(state)
        self._watch.wanted = True

    def __iter__(self) -> Iterator[Any]:
        """Raises LoadError where a clip fails and the dataset's `on_error` says so, where eight clips of training
        fail in a row, and where a worker dies."""
        epoch = self.epoch
        for num_given, packed in enumerate(self._from_workers(), start=1):
            self.num_failed += self._failed.count(packed, training=self.dataset.training)
            if isinstance(self._batches, TrainBatches) and num_given == 1:
                self._watch.begin(epoch)
            if isinstance(self._batches, TrainBatches) and num_given % self._batches.num_pieces == 0:
                self._batches.step()
                num_batches = num_given // self._batches.num_pieces
                self._watch.given(epoch, num_batches, is_whole=self.epoch != epoch)
            on_device = packed.to(self.device)
            yield on_device if self._packed else self._finish.apply(on_device)

    def _from_workers(self) -> Iterator[PackedBatch]:
        if self._loader is None:
            source = _Fetch(self.dataset, self._finish, self._features, whole_frames=self._whole_frames)
            self._loader = DataLoader(source, batch_sampler=self._batches, collate_fn=as_it_is, **self._workers)
        try:
            yield from checked_batches(self._loader)
        except WorkerDiedError:
            self._loader = None
            raise

    def _training_batches(self) -> TrainBatches:
        if not isinstance(self._batches, TrainBatches):
            raise UsageError("an evaluation has no position: it always begins at the first clip")
        return self._batches


class _Fetch(Dataset[Any]):
    """The work of a worker process: it loads the samples of a batch, packs them and chooses their augmentation."""

    def __init__(
        self,
        dataset: ClipDataset | MixedDataset,
        finish: Finish,
        features: FeatureReader | None,
        *,
        whole_frames: bool,
    ) -> None:
        self._dataset, self._finish, self._features = dataset, finish, features
        self._needed_by = None if whole_frames else finish.augment

    def __getitems__(self, samples: list[Sample]) -> PackedBatch | K710Error:
        """An error is returned, not raised: torch would raise another one, with the worker's traceback in its text."""
        try:
            if self._features is not None and isinstance(self._dataset, ClipDataset):
                return _from_features(self._features, self._dataset, samples)
            packed, loaded = pack_clips(self._dataset.load_each(samples, self._needed_by), len(samples))
        except K710Error as error:
            return error
        crops = [] if self._dataset.draws_frames else [self._dataset.view_of(sample).crop for sample in samples]
        self._finish.choose(packed, loaded, self._dataset.seed, crops)
        return packed

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError  # torch asks for whole batches


def _from_features(features: FeatureReader, dataset: ClipDataset, samples: list[Sample]) -> PackedBatch:
    """A batch of what is kept of its views. A clip that could not be read then has weight 0, as if it were read now."""
    clip_ids = [dataset.index.clip_ids[sample.clip].as_py() for sample in samples]
    views = [(sample.clip, dataset.view_number(sample)) for sample in samples]
    errors = {
        clip_id: features.errors[view] for clip_id, view in zip(clip_ids, views, strict=True) if view in features.errors
    }
    return PackedBatch(
        block=torch.empty(0, dtype=torch.uint8),
        shapes=[],
        class_ids=torch.tensor([int(dataset.class_ids[sample.clip]) for sample in samples], dtype=torch.int64),
        weights=torch.tensor([float(view not in features.errors) for view in views], dtype=torch.float32),
        clip_ids=clip_ids,
        samples=samples,
        errors=errors,
        seen=features.read(views),
    )
