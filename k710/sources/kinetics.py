"""The four Kinetics releases and their union, Kinetics-710: all that k710 knows of them but for their class names."""

from __future__ import annotations

from k710.sources.source import SPLITS, ArchiveHost, Archives, Source, Union, bibtex

# The Common Visual Data Foundation hosts lists and clips of all releases but for Kinetics-700 of 2019.
CVDF = ArchiveHost(
    base_url="https://s3.amazonaws.com/kinetics",
    address_pattern=(
        r"https?://(s3[.-]?[a-z0-9-]*\.amazonaws\.com/kinetics|kinetics\.s3[.-]?[a-z0-9-]*\.amazonaws\.com)/"
    ),
)
_DEEPMIND = "https://storage.googleapis.com/deepmind-media/Datasets"

_LICENCE = (
    "The Kinetics annotations (IDs, spans, labels) are published by Google DeepMind under\n"
    "[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/). This table is derived from them."
)


def _name_pattern(number: str) -> str:
    """The spellings of a release: `k400`, `kinetics400`, `Kinetics-400`, `kinetics_400`."""
    return rf"(?:k|kinetics[_-]?){number}"


def _cvdf_lists(folder: str, suffix: str = "csv") -> dict[str, str]:
    return {split: f"{CVDF.base_url}/{folder}/annotations/{split}.{suffix}" for split in SPLITS}


def _cvdf_archives(release: str, folder: str, *, also: tuple[str, ...] = ()) -> tuple[Archives, ...]:
    """The archives of a release, a list of them for each split. Val comes first: it is small, and needed early."""
    return tuple(
        Archives(f"{release}/{split}", f"{folder}/{split}/{release}_{split}_path.txt", (release, *also), (split,))
        for split in ("val", "train", "test")
    )


K400 = Source(
    name="k400",
    title="Kinetics-400",
    name_pattern=_name_pattern("400"),
    label_set="k400",
    citation=bibtex(
        "kay2017kinetics",
        "The Kinetics Human Action Video Dataset",
        "Kay, Will and Carreira, Jo{\\~a}o and Simonyan, Karen and Zhang, Brian and Hillier, Chloe and "
        "Vijayanarasimhan, Sudheendra and Viola, Fabio and Green, Tim and Back, Trevor and Natsev, Paul and "
        "Suleyman, Mustafa and Zisserman, Andrew",
        2017,
        "1705.06950",
    ),
    licence=_LICENCE,
    colour="#3d7ab8",
    list_urls=_cvdf_lists("400"),
    published_rows={"train": 246_245, "val": 20_000, "test": 38_685},
    paper_rows={"train": 240_436, "val": 19_787},
    archives=(
        # Whole files for about 1,400 clips that are damaged in the other archives; so they are asked first.
        Archives("k400/replacement", "400/replacement_for_corrupted_k400.tgz", ("k400",), SPLITS),
        *_cvdf_archives("k400", "400"),
    ),
)

K600 = Source(
    name="k600",
    title="Kinetics-600",
    name_pattern=_name_pattern("600"),
    label_set="k600",
    citation=bibtex(
        "carreira2018kinetics600",
        "A Short Note about Kinetics-600",
        "Carreira, Jo{\\~a}o and Noland, Eric and Banki-Horvath, Andras and Hillier, Chloe and Zisserman, Andrew",
        2018,
        "1808.01340",
    ),
    licence=_LICENCE,
    colour="#2f9e8f",
    # The .csv files of train and val in the same place are known to be incomplete; the .txt files are whole.
    list_urls=_cvdf_lists("600", "txt") | {"test": _cvdf_lists("600")["test"]},
    published_rows={"train": 392_622, "val": 30_000, "test": 72_924},
    paper_rows={"train": 366_006, "val": 27_935},
    archives=_cvdf_archives("k600", "600"),
)

K700 = Source(
    name="k700",
    title="Kinetics-700",
    name_pattern=_name_pattern("700"),
    label_set="k700",
    citation=bibtex(
        "carreira2019kinetics700",
        "A Short Note on the Kinetics-700 Human Action Dataset",
        "Carreira, Jo{\\~a}o and Noland, Eric and Hillier, Chloe and Zisserman, Andrew",
        2019,
        "1907.06987",
    ),
    licence=_LICENCE,
    colour="#8067b7",
    list_urls=dict.fromkeys(SPLITS, f"{_DEEPMIND}/kinetics700.tar.gz"),  # one archive holds the list of every split
    published_rows={"train": 545_317, "val": 35_000, "test": 70_000},
    paper_rows={"train": 529_573, "val": 33_861},
    twin="k700_2020",  # the two val lists share 97 % of their videos
)

K700_2020 = Source(
    name="k700_2020",
    title="Kinetics-700-2020",
    name_pattern=_name_pattern("700[_-]2020"),
    label_set="k700",  # other clips of the same classes
    citation=bibtex(
        "smaira2020kinetics700",
        "A Short Note on the Kinetics-700-2020 Human Action Dataset",
        "Smaira, Lucas and Carreira, Jo{\\~a}o and Noland, Eric and Clancy, Ellen and Wu, Amy and Zisserman, Andrew",
        2020,
        "2010.10864",
    ),
    licence=_LICENCE,
    colour="#cf8f2e",
    list_urls=_cvdf_lists("700_2020"),
    published_rows={"val": 34_198},
    archives=_cvdf_archives("k700_2020", "700_2020", also=("k700",)),  # most clips of Kinetics-700 are in them
    twin="k700",
)

K710 = Union(
    name="k710",
    title="Kinetics-710",
    short_title="K710",
    name_pattern=_name_pattern("710"),
    label_set="k710",
    sources=("k400", "k600", "k700", "k700_2020"),
    members=("k400", "k600", "k700"),  # UniFormerV2, section 4
    precedence=("k700_2020", "k700", "k600", "k400"),  # newest first; no paper says it
    synonyms="synonyms.csv",
    paper_rows={"train": 658_340, "val": 66_803},  # UniFormerV2, Table 10
    paper_classes=710,
    citations=(
        bibtex(
            "li2022uniformerv2",
            "UniFormerV2: Spatiotemporal Learning by Arming Image ViTs with Video UniFormer",
            "Li, Kunchang and Wang, Yali and He, Yinan and Li, Yizhuo and Wang, Yi and Wang, Limin and Qiao, Yu",
            2022,
            "2211.09552",
        ),
        bibtex(
            "wang2023videomaev2",
            "VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking",
            "Wang, Limin and Huang, Bingkun and Zhao, Zhiyu and Tong, Zhan and He, Yinan and Wang, Yi and Wang, Yali "
            "and Qiao, Yu",
            2023,
            "2303.16727",
        ),
    ),
    tags=("kinetics", "kinetics-710"),
)
