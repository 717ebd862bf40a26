"""What each modality measures: recognised, told by ``kinds=``, or recorded by an earlier step."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scmag_muon._assays import ASSAYS, ModalityKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

logger = logging.getLogger(__name__)

_LARGEST_PANEL = 500
_MOST_NAMES_READ = 500

_HASHTAGS = "hashtags"
_GUIDES = "guide RNAs"
_RECEPTORS = "receptors"

_FEATURE_TYPES = {
    "rna": "geneexpression gex gene genes rna mrna transcript transcripts transcriptome",
    "atac": "peaks peak atac scatac chromatinaccessibility accessibility region regions bin bins tile tiles",
    "protein": "antibodycapture antibody antibodies adt adts antibodyderivedtags protein proteins prot abseq cite surfaceprotein",
    _HASHTAGS: "multiplexingcapture hto htos hashtag hashtags cellhashing sampletag sampletags",
    _GUIDES: "crisprguidecapture crispr guide guides sgrna",
    _RECEPTORS: "vdj vdjt vdjb tcr bcr airr antigencapture",
}
_OF_FEATURE_TYPE = {word: label for label, words in _FEATURE_TYPES.items() for word in words.split()}

# whole words of a modality's name; the second of each pair counts only where no word of the first kind is there
_WORDS: dict[str, tuple[str, str]] = {
    _HASHTAGS: (r"htos?|hash\w*|multiplexing|multiseq|cmos?|lmos?|sampletags?", ""),
    _GUIDES: (r"crispr|guides?|s?grnas?|perturb\w*", ""),
    _RECEPTORS: (r"airr|vdj|tcrs?|bcrs?", "ir"),
    "atac": (
        r"\w*atac\w*|\w*chromatin\w*|\w*peaks?|peak\w+|accessib\w*|cuttag|cutrun|cutnrun|chip\w*|histones?|dnase\w*|tiles?|bins|"
        r"regions|h[1-4]a?z?[krst]\d+\w*|pairedtag|geneactivity|genescore\w*",
        "",
    ),
    "protein": (
        r"prots?|protein\w*|proteo\w*|adts?|antibod\w+|abseq|abs|totalseq\w*|csp|epitopes?",
        r"cite\w*|ab|surface",
    ),
    "rna": (
        r"(m|sc|sn|pre|total|linc|lnc)?rnas?(seq)?|gex|sct|transcript\w*|cdna|u?n?spliced",
        r"genes?|geneexpression|expression",
    ),
}
_JOINED = (
    r"cut\W*(?:and|n)?\W*(?:tag|run)|gene\W*(?:activity|scores?|expression)|sample\W*tags?|multi\W*seq|paired\W*tag"
)

_COORDINATES = re.compile(r"(?:[\w.]+[_-])?chr\w+?[:_-][\d,]+|[\w.]+?[:_-][\d,]+[-_][\d,]{3,}$", re.IGNORECASE)
_ANTIBODY = re.compile(
    r"(?i:totalseq)|[-_][ACGT]{15}$|[-_ ]A[BH]?S?\d{4}$|^A\d{4}[-_ ]|(?i:^anti[-_ ]|^(?:adt|prot|protein|ab)[-_:]|[-_ |:(](?:adt|prot|protein|pabo)\)?$)"
)
_ISOTYPE = re.compile(r"(?i:isotype)|\bIgG\d?[abc]?\b.*(?i:ctrl|control|ctl)|^(?i:mouse|rat|hamster|armenian).*Ig[GM]")
_HASHTAG = re.compile(r"(?i:hash[-_ ]?tag|^htos?[-_ ]?\w{0,3}$|^cmo\d{3}|sample[-_ ]?tag)")
_GENE = re.compile(
    r"ENS[A-Z]*G\d{6,}|(?i:mt-(?:nd|co|cy|at)|rp[ls]\d|linc\d|gene[-_ ]?\d+$|malat1|actb$|gapdh$|col\d+a\d|s100a\d|ccl\d|cxcl\d|gzm[abhk]$"
    r"|krt\d|lyz|nkg7|gnly|foxp3|hla-d[rpq][ab])|A[CFLP]\d{6}|Gm\d{3}|\d{7}\w\d\dRik"
)
_NUMBERED = {
    "atac": re.compile(r"(?i:peak|region|bin|tile)s?[-_ ]?\d+$"),
    "protein": re.compile(r"(?i:protein|prot|antibody|adt)s?[-_ ]?\d+$"),
}
_CLUSTER_OF_DIFFERENTIATION = re.compile(r"(?i:(?:hu|ms|hums)?[-_.]?cd)\d+\w{0,3}\b")


@dataclass(frozen=True)
class Recognized:
    """What a modality seems to measure: a kind, or none for what cells are not clustered by, and why."""

    kind: ModalityKind | None
    label: str
    reason: str

    def __str__(self) -> str:
        return f"{self.label}, by {self.reason}"


def recognize(name: str, adata: AnnData) -> Recognized:
    """Tell what a modality measures: by its feature types, else names of features, of itself, else the size of its panel."""
    return (
        _by_feature_types(adata)
        or _by_telling_features(adata)
        or _by_name(name)
        or _by_usual_features(adata)
        or _by_size(adata)
    )


def modality_kind(name: str, adata: AnnData) -> ModalityKind:
    """What a modality measures; what has no kind of its own, as hashtags, is treated as a panel of proteins."""
    return recognize(name, adata).kind or "protein"


def _found(label: str, reason: str) -> Recognized:
    for kind, assay in ASSAYS.items():
        if label == kind:
            return Recognized(kind, assay.label, reason)
    return Recognized(None, label, reason)


def _by_feature_types(adata: AnnData) -> Recognized | None:
    for column in ("feature_types", "feature_type"):
        if column not in adata.var:
            continue
        values = [str(value) for value in adata.var[column].dropna().unique()]
        labels = {_of_feature_type(value) for value in values}
        label = labels.pop() if len(labels) == 1 else None
        if label is not None:
            return _found(label, f"var[{column!r}] {values[0]!r}")
    return None


def _names(adata: AnnData) -> list[str]:
    """Some names of features, spread evenly over all."""
    step = max(1, adata.n_vars // _MOST_NAMES_READ)
    return [str(name) for name in adata.var_names[::step]]


def _share(pattern: re.Pattern[str], names: Sequence[str]) -> float:
    return float(np.mean([pattern.search(name) is not None for name in names])) if names else 0.0


def _by_telling_features(adata: AnnData) -> Recognized | None:
    """Names that only one kind of feature has."""
    names = _names(adata)
    example = f"names of features such as {names[0]!r}" if names else ""
    if names and np.mean([_COORDINATES.match(name) is not None for name in names]) > 0.5:
        return _found("atac", example)
    if adata.n_vars > 2 * _LARGEST_PANEL:
        return None
    if _share(_HASHTAG, names) > 0.8:
        return _found(_HASHTAGS, example)
    isotype = next((name for name in names if _ISOTYPE.search(name)), None)
    if isotype is not None:
        return _found("protein", f"the isotype control {isotype!r}")
    if _share(_ANTIBODY, names) > 0.5:
        return _found("protein", example)
    return None


def _by_name(name: str) -> Recognized | None:
    joined = re.sub(_JOINED, lambda found: re.sub(r"[\W_]", "", found[0]), name.replace("_", " "), flags=re.IGNORECASE)
    cut = re.sub(r"(?<=[a-z])(?=[A-Z][a-z]|[A-Z]{3})", " ", joined)
    words = [word.lower() for word in re.split(r"[\W_]+", f"{joined} {cut}") if word]
    for strength in (0, 1):
        labels = [label for label, of in _WORDS.items() if any(re.fullmatch(of[strength], word) for word in words)]
        if len(labels) == 1:
            return _found(labels[0], "its name")
        if labels and labels[0] in (_HASHTAGS, _GUIDES, _RECEPTORS):
            return _found(labels[0], "its name")
        if labels:
            return None
    return None


def _by_usual_features(adata: AnnData) -> Recognized | None:
    """Names that features of one kind mostly have."""
    names = _names(adata)
    for label, pattern in _NUMBERED.items():
        if _share(pattern, names) > 0.5:
            return _found(label, f"names of features such as {names[0]!r}")
    genes = [name for name in names if _GENE.match(name)]
    if len(genes) >= max(3, 0.02 * len(names)):
        return _found("rna", f"genes such as {genes[0]!r}")
    antigens = [name for name in names if _CLUSTER_OF_DIFFERENTIATION.match(name)]
    if adata.n_vars <= _LARGEST_PANEL and len(antigens) > 0.2 * len(names):
        return _found("protein", f"names of features such as {antigens[0]!r}")
    return None


def _by_size(adata: AnnData) -> Recognized:
    return _found("protein" if adata.n_vars <= _LARGEST_PANEL else "rna", f"its {adata.n_vars} features alone")


def kinds_of(
    mdata: MuData,
    modalities: Sequence[str],
    kinds: Mapping[str, ModalityKind] | None = None,
    *,
    recorded_under: str | None = None,
) -> dict[str, ModalityKind]:
    """The kind of each modality: told, else recorded by the fit of that name, else recognised, which one line of the log says."""
    told = check_kinds(mdata, kinds)
    found: dict[str, ModalityKind] = {}
    guesses = {}
    for name in modalities:
        adata = mdata.mod[name]
        kind = told.get(name)
        if kind is None and recorded_under is not None:
            kind = recorded_kind(adata, recorded_under)
        if kind is None:
            guesses[name] = recognize(name, adata)
            kind = guesses[name].kind or "protein"
        found[name] = kind
    if guesses:
        logger.info(
            "Modalities are taken for: %s. To say otherwise, give kinds={modality: kind}.",
            "; ".join(f"{name!r} {guess}" for name, guess in guesses.items()),
        )
    for name in guesses:
        _tell_mixed(mdata, name)
    for name, guess in guesses.items():
        if guess.kind is None:
            logger.warning("Modality %r holds %s, which are used as a panel of proteins.", name, guess.label)
    return found


def _tell_mixed(mdata: MuData, name: str) -> None:
    """Warn of a modality that holds features of several kinds, as a matrix of 10x that was not split."""
    adata = mdata.mod[name]
    for column in ("feature_types", "feature_type"):
        values = [str(value) for value in adata.var[column].dropna().unique()] if column in adata.var else []
        found = {label: value for value in values if (label := _of_feature_type(value)) is not None}
        if len(found) > 1:
            of_kind = f"mdata[{name!r}][:, mdata[{name!r}].var[{column!r}] == kind].copy()"
            parts = f"**{{f'{name} {{kind}}': {of_kind} for kind in mdata[{name!r}].var[{column!r}].unique()}}"
            others = "".join(f", {other!r}: mdata[{other!r}]" for other in mdata.mod if other != name)
            logger.warning(
                "Modality %r holds features of several kinds (%s) and is used as one. Split it: mdata = mudata.MuData({%s%s}).",
                name,
                ", ".join(found.values()),
                parts,
                others,
            )
            return


def _of_feature_type(value: str) -> str | None:
    return _OF_FEATURE_TYPE.get(re.sub(r"[\W_]", "", value.lower()))


def check_kinds(mdata: MuData, kinds: Mapping[str, ModalityKind] | None) -> dict[str, ModalityKind]:
    """Raise unless ``kinds`` names kinds of modalities that are there."""
    if kinds is None:
        return {}
    if not hasattr(kinds, "items"):
        raise TypeError(f'`kinds` must map modalities to kinds, for example kinds={{"atac": "atac"}}, got {kinds!r}.')
    for name, kind in kinds.items():
        if name not in mdata.mod:
            raise KeyError(f"kinds names {name!r}, but the modalities are {list(mdata.mod)}.")
        if kind not in list(ASSAYS):
            raise ValueError(f"kinds[{name!r}] must be one of {list(ASSAYS)}, got {kind!r}.")
    return dict(kinds)


def recorded_kind(adata: AnnData, key: str) -> ModalityKind | None:
    """The kind that the fit of that name was told or took."""
    record = adata.uns.get(key)
    kind = record.get("kind") if hasattr(record, "get") else None
    return next((known for known in ASSAYS if known == kind), None)
