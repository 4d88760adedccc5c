"""Packed shards, read from beginning to end: for storage that likes long reads better than small ones.

The shards of an epoch stand in one seeded order and are dealt out to ranks and workers; a clip's place in a shard is
shuffled within a window. What is done is remembered shard by shard.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from k710.errors import K710Error, LoadError, UsageError
from k710.labels import class_names
from k710.loading.batch import Batch, PackedBatch, pack_clips
from k710.loading.clip_index import NO_CLASS
from k710.loading.dataset import ON_ERROR, LoadedClip
from k710.loading.decode import DEFAULT_DECODER, check_decoder, decode
from k710.loading.finish import Finish
from k710.loading.jpegs import decode_jpegs
from k710.loading.order import Sample, Share
from k710.loading.random_key import Ints, RandomKey
from k710.loading.sampling import FrameSampling, nearest_stored
from k710.storage import local_folder
