"""The papers to cite of the releases and of Kinetics-710, as BibTeX."""

from __future__ import annotations

from collections.abc import Iterable


def _entry(key: str, title: str, authors: str, year: int, arxiv: str) -> str:
    fields = {"title": title, "author": authors, "year": str(year), "journal": f"arXiv preprint arXiv:{arxiv}"}
    return "\n".join([f"@article{{{key},", *(f"  {name} = {{{value}}}," for name, value in fields.items()), "}"])


_OF_RELEASE = {
    "k400": _entry(
        "kay2017kinetics",
        "The Kinetics Human Action Video Dataset",
        "Kay, Will and Carreira, Jo{\\~a}o and Simonyan, Karen and Zhang, Brian and Hillier, Chloe and "
        "Vijayanarasimhan, Sudheendra and Viola, Fabio and Green, Tim and Back, Trevor and Natsev, Paul and "
        "Suleyman, Mustafa and Zisserman, Andrew",
        2017,
        "1705.06950",
    ),
    "k600": _entry(
        "carreira2018kinetics600",
        "A Short Note about Kinetics-600",
        "Carreira, Jo{\\~a}o and Noland, Eric and Banki-Horvath, Andras and Hillier, Chloe and Zisserman, Andrew",
        2018,
        "1808.01340",
    ),
    "k700": _entry(
        "carreira2019kinetics700",
        "A Short Note on the Kinetics-700 Human Action Dataset",
        "Carreira, Jo{\\~a}o and Noland, Eric and Hillier, Chloe and Zisserman, Andrew",
        2019,
        "1907.06987",
    ),
    "k700_2020": _entry(
        "smaira2020kinetics700",
        "A Short Note on the Kinetics-700-2020 Human Action Dataset",
        "Smaira, Lucas and Carreira, Jo{\\~a}o and Noland, Eric and Clancy, Ellen and Wu, Amy and Zisserman, Andrew",
        2020,
        "2010.10864",
    ),
}

_OF_K710 = (
    _entry(
        "li2022uniformerv2",
        "UniFormerV2: Spatiotemporal Learning by Arming Image ViTs with Video UniFormer",
        "Li, Kunchang and Wang, Yali and He, Yinan and Li, Yizhuo and Wang, Yi and Wang, Limin and Qiao, Yu",
        2022,
        "2211.09552",
    ),
    _entry(
        "wang2023videomaev2",
        "VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking",
        "Wang, Limin and Huang, Bingkun and Zhao, Zhiyu and Tong, Zhan and He, Yinan and Wang, Yi and Wang, Yali and "
        "Qiao, Yu",
        2023,
        "2303.16727",
    ),
)


def citations(sources: Iterable[str]) -> list[str]:
    """BibTeX entries: the releases' papers, then the two that made Kinetics-710 of them."""
    return [*(_OF_RELEASE[source] for source in sources), *_OF_K710]
