"""Published data sets beside Kinetics whose lists are read in the form in which they were published.

Facts are those of the publishers' own files and pages. None of the lists comes with k710.
"""

from __future__ import annotations

from dataclasses import dataclass

from k710.sources.source import NONE, PATH, STEM, YOUTUBE, bibtex


@dataclass(frozen=True)
class Published:
    """What is known of a data set. `origin` says where its lists come from and what to put into the folder. `views` are
    the sources that it becomes, each with the title of its own: one, or one for each of its splits. `spans` is empty
    where the lists decide: some views have segments, others whole videos. `frames_per_s`: see Source.
    """

    name: str
    views: dict[str, str]
    origin: str
    licence: str
    citation: str
    colour: str
    ids: str = STEM
    spans: str = NONE
    frames_per_s: float = 0.0


def _book(key: str, title: str, authors: str, year: int, where: str) -> str:
    fields = {"title": title, "author": authors, "year": str(year), "booktitle": where}
    return "\n".join([f"@inproceedings{{{key},", *(f"  {name} = {{{value}}}," for name, value in fields.items()), "}"])


_SOMETHING = bibtex(
    "goyal2017something",
    "The ``something something'' video database for learning and evaluating visual common sense",
    "Goyal, Raghav and Ebrahimi Kahou, Samira and Michalski, Vincent and Materzy{\\'n}ska, Joanna and Westphal, "
    "Susanne and Kim, Heuna and Haenel, Valentin and Fruend, Ingo and Yianilos, Peter and Mueller-Freitag, Moritz "
    "and others",
    2017,
    "1706.04261",
)
_OWN_TERMS = "For research, under terms that its publisher has everyone agree to who downloads it."

UCF101 = Published(
    name="ucf101",
    views={f"ucf101_{number}": f"UCF101 split {number}" for number in (1, 2, 3)},
    origin=(
        "classInd.txt, trainlist01.txt to trainlist03.txt and testlist01.txt to testlist03.txt, from "
        "UCF101TrainTestSplits-RecognitionTask.zip at https://www.crcv.ucf.edu/data/UCF101.php"
    ),
    licence="Published by the Center for Research in Computer Vision, University of Central Florida; no licence given.",
    citation=bibtex(
        "soomro2012ucf101",
        "UCF101: A Dataset of 101 Human Actions Classes From Videos in The Wild",
        "Soomro, Khurram and Zamir, Amir Roshan and Shah, Mubarak",
        2012,
        "1212.0402",
    ),
    colour="#7a8f2e",
)

HMDB51 = Published(
    name="hmdb51",
    views={f"hmdb51_{number}": f"HMDB51 split {number}" for number in (1, 2, 3)},
    origin=(
        "the 153 files CLASS_test_split1.txt to CLASS_test_split3.txt, from test_train_splits.rar of HMDB51 at the "
        "Serre lab (https://serre-lab.clps.brown.edu); unpack it with unrar"
    ),
    licence="Published by the Serre lab, Brown University; see its page for the terms.",
    citation=_book(
        "kuehne2011hmdb",
        "HMDB: A Large Video Database for Human Motion Recognition",
        "Kuehne, Hildegard and Jhuang, Hueihan and Garrote, Est{\\'i}baliz and Poggio, Tomaso and Serre, Thomas",
        2011,
        "ICCV",
    ),
    colour="#2e8f86",
)

SSV2 = Published(
    name="ssv2",
    views={"ssv2": "Something-Something V2"},
    origin=(
        "labels.json, train.json, validation.json and, if wanted, test.json with test-answers.csv, as Qualcomm's "
        "package has them in `labels/`, or the same as something-something-v2-labels.json and so on. The package needs "
        "an account with Qualcomm (https://www.qualcomm.com/developer/software/something-something-v-2-dataset)"
    ),
    licence=_OWN_TERMS,
    citation=_SOMETHING,
    colour="#8f5a2e",
)

SSV1 = Published(
    name="ssv1",
    views={"ssv1": "Something-Something V1"},
    origin=(
        "something-something-v1-labels.csv, -train.csv, -validation.csv and, if wanted, -test.csv. Their publisher "
        "does not offer them any more"
    ),
    licence=_OWN_TERMS,
    citation=_SOMETHING,
    colour="#8f2e6b",
    frames_per_s=12.0,  # no video of it was ever released
)

MIT = Published(
    name="mit",
    views={"mit": "Moments in Time V1"},
    origin=(
        "moments_categories.txt, trainingSet.csv and validationSet.csv, from the data set's own download, which its "
        "publisher gives for a form (http://moments.csail.mit.edu)"
    ),
    licence=_OWN_TERMS,
    citation=bibtex(
        "monfort2018moments",
        "Moments in Time Dataset: one million videos for event understanding",
        "Monfort, Mathew and Andonian, Alex and Zhou, Bolei and Ramakrishnan, Kandan and Bargal, Sarah Adel and Yan, "
        "Tom and Brown, Lisa and Fan, Quanfu and Gutfruend, Dan and Vondrick, Carl and Oliva, Aude",
        2018,
        "1801.03150",
    ),
    colour="#4a6b8f",
    ids=PATH,
)

ACTIVITYNET = Published(
    name="activitynet",
    views={"activitynet": "ActivityNet 1.3", "activitynet_videos": "ActivityNet 1.3, whole videos"},
    origin="activity_net.v1-3.min.json, from http://activity-net.org/download.html",
    licence="Published by the ActivityNet project; see its page for the terms.",
    citation=_book(
        "heilbron2015activitynet",
        "ActivityNet: A Large-Scale Video Benchmark for Human Activity Understanding",
        "Caba Heilbron, Fabian and Escorcia, Victor and Ghanem, Bernard and Niebles, Juan Carlos",
        2015,
        "CVPR",
    ),
    colour="#8f3d2e",
    ids=YOUTUBE,
    spans="",
)

_HACS = bibtex(
    "zhao2019hacs",
    "HACS: Human Action Clips and Segments Dataset for Recognition and Temporal Localization",
    "Zhao, Hang and Torralba, Antonio and Torresani, Lorenzo and Yan, Zhicheng",
    2019,
    "1712.09374",
)
_HACS_ORIGIN = "from HACS_v1.1.1.zip at https://github.com/hangzhaomit/HACS-dataset"

HACS = Published(
    name="hacs",
    views={"hacs": "HACS Segments 1.1.1", "hacs_videos": "HACS Segments 1.1.1, whole videos"},
    origin=f"HACS_segments_v1.1.1.json, {_HACS_ORIGIN}",
    licence="Published by the HACS project; see its page for the terms.",
    citation=_HACS,
    colour="#2e6f8f",
    ids=YOUTUBE,
    spans="",
)

HACS_CLIPS = Published(
    name="hacs_clips",
    views={"hacs_clips": "HACS Clips 1.1.1"},
    origin=f"HACS_clips_v1.1.1.csv, {_HACS_ORIGIN}",
    licence="Published by the HACS project; see its page for the terms.",
    citation=_HACS,
    colour="#2e8f5a",
    ids=YOUTUBE,
    spans="",
)

_ALL = (UCF101, HMDB51, SSV2, SSV1, MIT, ACTIVITYNET, HACS, HACS_CLIPS)
OTHERS: dict[str, Published] = {one.name: one for one in _ALL}
