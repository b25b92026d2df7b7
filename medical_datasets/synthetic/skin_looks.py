"""How often each look of a diagnosis shows which colours, structures, borders and shapes under the dermoscope.

The odds are coarse readings of textbook descriptions (Kittler et al., JAAD 2016; Zalaudek et al., JAAD 2010; Marghoob
and Malvehy, *Atlas of Dermoscopy*); no picture was measured for them.
"""

from __future__ import annotations

from dataclasses import dataclass

STRUCTURES = (
    "pigment network", "atypical network", "pseudonetwork", "globules", "dots", "streaks", "blotch", "blue-white veil",
    "regression", "blue-grey nests", "leaf-like areas", "cerebriform ridges", "fingerprint lines",
    "strawberry pattern", "red lacunae", "dark clots", "arborising vessels", "dotted vessels", "hairpin vessels",
    "coiled vessels", "comma vessels", "irregular vessels", "milia-like cysts", "comedo-like openings", "white patch",
    "white lines", "white circles", "keratin mass", "scale", "ulceration", "crust",
)  # fmt: skip
COLOURS = ("light brown", "dark brown", "black", "red", "pink", "white", "blue-grey", "yellow", "skin-coloured")
# A structure brings its own colour with it.
COLOUR_OF = {
    "blue-white veil": "blue-grey", "regression": "white", "blue-grey nests": "blue-grey", "red lacunae": "red",
    "dark clots": "black", "strawberry pattern": "red", "white patch": "white", "keratin mass": "yellow",
    "scale": "white", "ulceration": "red", "white circles": "white",
}  # fmt: skip
# What any lesion may show against expectation, and how often.
STRAY = ("dots", "globules", "dotted vessels", "scale", "crust", "milia-like cysts", "blotch", "white lines",
         "irregular vessels", "regression")  # fmt: skip
STRAY_ODDS = 0.015
Odds = dict[str, float]


@dataclass(frozen=True, slots=True)
class Look:
    """One look of a diagnosis.

    Attributes:
        share: how often the diagnosis looks like this; sums to 1 over the looks of a diagnosis.
        main: odds of the ground colour; borders, shapes: odds of each; all sum to 1.
        also: probability of each further colour; signs: probability of each structure, all independent.
        symmetry: bounds of the symmetry, in [0, 1].
    """

    share: float
    main: Odds
    also: Odds
    signs: Odds
    borders: Odds
    shapes: Odds
    symmetry: tuple[float, float]


def _parse(text: str) -> Odds:
    pairs = (item.strip().rsplit(" ", 1) for item in text.split(",") if item.strip())
    return {name: float(value) for name, value in pairs}


def _even(text: str) -> Odds:
    odds = _parse(text)
    total = sum(odds.values())
    return {name: value / total for name, value in odds.items()}


def _look(
    share: float,
    main: str,
    also: str,
    signs: str,
    borders: str,
    symmetry: tuple[float, float],
    shapes: str = "round 6, elongated 1, lobed 1, polygonal 1, filling .5",
) -> Look:
    return Look(share, _even(main), _parse(also), _parse(signs), _even(borders), _even(shapes), symmetry)


_WILD = "round 2, lobed 2, polygonal 2, elongated 1, two-part 2, filling 1.5"
_FACE = "round 2, lobed 1, polygonal 1, filling 3, several 2"
LOOKS: dict[str, dict[str, Look]] = {
    "akiec": {
        "scaly": _look(0.3, "pink 5, red 0.8, skin-coloured 1", "yellow .2, light brown .15",
            "scale .95, strawberry pattern .15, dotted vessels .25, irregular vessels .1, crust .15",
            "fading 5, irregular 3", (0.2, 0.8), _FACE),
        "strawberry": _look(0.22, "pink 5, red 1.2", "light brown .1",
            "strawberry pattern .97, scale .4, irregular vessels .12", "fading 6, irregular 2", (0.3, 0.9), _FACE),
        "crusted": _look(0.16, "pink 4, red 0.8, yellow 1", "yellow .3, light brown .1",
            "crust .95, scale .6, ulceration .12, dotted vessels .1, white circles .06",
            "fading 3, irregular 4, sharp 1", (0.2, 0.8), _FACE),
        "pigmented": _look(0.16, "light brown 5, dark brown 1, pink 1", "pink .5, dark brown .2, blue-grey .1",
            "pseudonetwork .6, strawberry pattern .2, scale .5, dots .25, regression .05", "fading 4, irregular 4",
            (0.2, 0.8), _FACE),
        "bowen": _look(0.16, "pink 5, red 0.8, light brown 1", "light brown .2, yellow .15",
            "coiled vessels .85, scale .75, dotted vessels .25, crust .15, dots .1", "sharp 3, irregular 4, fading 2",
            (0.3, 0.85), _WILD),
    },
    "bcc": {
        "nodular": _look(0.3, "pink 6, skin-coloured 3, red 0.4", "white .2, yellow .05",
            "arborising vessels .92, white lines .3, ulceration .2, blue-grey nests .2, milia-like cysts .12",
            "sharp 4, fading 4, irregular 1", (0.4, 0.95)),
        "superficial": _look(0.2, "pink 6, red 0.8", "white .25, light brown .15",
            "irregular vessels .6, arborising vessels .3, leaf-like areas .3, scale .25, ulceration .35, "
            "crust .15, white lines .35, blue-grey nests .2",
            "sharp 2, irregular 4, fading 4", (0.2, 0.8), _WILD),
        "pigmented": _look(0.24, "pink 4, skin-coloured 1, blue-grey 2, light brown 2",
            "blue-grey .3, dark brown .25, pink .3",
            "blue-grey nests .92, leaf-like areas .45, arborising vessels .55, dots .2, ulceration .25, "
            "blue-white veil .1, white lines .2",
            "sharp 4, irregular 3, fading 2", (0.2, 0.85), _WILD),
        "ulcerated": _look(0.16, "pink 5, red 1.2", "yellow .15, white .15",
            "ulceration .96, crust .4, arborising vessels .7, white lines .2, blue-grey nests .2",
            "irregular 4, fading 3, sharp 2", (0.3, 0.9)),
        "morphoeic": _look(0.1, "skin-coloured 3, pink 3, white 2", "white .4, pink .3",
            "arborising vessels .75, white lines .2, ulceration .15", "fading 8, irregular 2", (0.3, 0.9), _WILD),
    },
    "bkl": {
        "cerebriform": _look(0.18, "light brown 4, dark brown 4", "dark brown .2, yellow .1",
            "cerebriform ridges .96, milia-like cysts .4, comedo-like openings .4, scale .06", "sharp 6, scalloped 3",
            (0.5, 0.95)),
        "cystic": _look(0.18, "light brown 4, dark brown 4, yellow 1", "dark brown .25, blue-grey .1",
            "milia-like cysts .95, comedo-like openings .75, cerebriform ridges .3, hairpin vessels .15, scale .06",
            "sharp 6, scalloped 2", (0.4, 0.95)),
        "flat": _look(0.16, "light brown 8, dark brown 1", "dark brown .2, pink .08",
            "fingerprint lines .4, pseudonetwork .3, pigment network .15, milia-like cysts .12",
            "scalloped 4, sharp 4, fading 1", (0.3, 0.9), _WILD),
        "dark": _look(0.12, "dark brown 6, black 3", "black .3, blue-grey .25",
            "comedo-like openings .5, milia-like cysts .6, cerebriform ridges .4, blue-white veil .08, crust .06",
            "sharp 7, irregular 1", (0.4, 0.95)),
        "lentigo": _look(0.14, "light brown 7, dark brown 2", "dark brown .25",
            "fingerprint lines .8, pseudonetwork .25, pigment network .15", "scalloped 6, sharp 3",
            (0.3, 0.9), _WILD),
        "lichenoid": _look(0.12, "light brown 4, pink 3, blue-grey 2", "blue-grey .4, pink .4, light brown .4",
            "regression .55, dots .5, scale .15, fingerprint lines .12, dotted vessels .1",
            "fading 4, irregular 3, scalloped 2", (0.2, 0.75), _WILD),
        "pale": _look(0.1, "skin-coloured 3, pink 4, yellow 2", "yellow .3, light brown .4",
            "hairpin vessels .65, milia-like cysts .35, cerebriform ridges .45, scale .3, crust .12, "
            "dotted vessels .1", "sharp 6, scalloped 1", (0.4, 0.95)),
    },
    "df": {
        "white patch": _look(0.5, "light brown 7, pink 2", "pink .15, dark brown .08",
            "white patch .96, pigment network .8, dotted vessels .12, white lines .15, globules .06",
            "fading 9, sharp 1", (0.65, 1.0)),
        "ring": _look(0.15, "light brown 6, dark brown 3", "dark brown .2",
            "white patch .7, pigment network .5, globules .3, dots .05", "fading 7, sharp 2", (0.65, 1.0)),
        "pink": _look(0.2, "pink 7, light brown 1", "light brown .3, white .2",
            "white patch .4, dotted vessels .45, white lines .35, pigment network .3, scale .1, ulceration .03",
            "fading 8, sharp 2", (0.6, 1.0)),
        "network": _look(0.15, "light brown 9, dark brown 1", "dark brown .08",
            "pigment network .96, white patch .12", "fading 9, sharp 1", (0.65, 1.0)),
    },
    "mel": {
        "superficial": _look(0.34, "dark brown 6, light brown 3, black 1",
            "black .4, light brown .5, blue-grey .3, red .15, dark brown .3, white .1",
            "atypical network .75, globules .4, dots .4, streaks .35, blotch .45, blue-white veil .4, "
            "regression .25, white lines .2, irregular vessels .12",
            "irregular 6, sharp 3, fading 1", (0.0, 0.55), _WILD),
        "nodular": _look(0.18, "black 4, dark brown 3, blue-grey 2, red 0.4",
            "blue-grey .5, red .25, dark brown .4, pink .15",
            "blue-white veil .85, blotch .5, irregular vessels .4, white lines .4, ulceration .25, "
            "globules .25, dots .15, milia-like cysts .06",
            "sharp 5, irregular 3", (0.2, 0.8)),
        "regressing": _look(0.16, "light brown 5, dark brown 3, pink 1",
            "pink .4, dark brown .4, blue-grey .4, white .3",
            "regression .96, atypical network .5, dots .3, irregular vessels .2, blue-white veil .15, blotch .2",
            "irregular 6, fading 3", (0.0, 0.55), _WILD),
        "amelanotic": _look(0.12, "pink 6, red 1.2", "light brown .4, white .15, blue-grey .12",
            "irregular vessels .85, dotted vessels .45, white lines .4, ulceration .25, hairpin vessels .1, "
            "atypical network .1, crust .1", "irregular 4, sharp 3, fading 2", (0.1, 0.7)),
        "lentigo maligna": _look(0.1, "light brown 5, dark brown 4", "dark brown .4, blue-grey .3, pink .1",
            "pseudonetwork .85, dots .5, regression .25, blotch .25", "irregular 5, fading 3, scalloped 1",
            (0.1, 0.6), _WILD),
        "thin": _look(0.1, "light brown 5, dark brown 4", "dark brown .4, pink .12",
            "atypical network .7, pigment network .3, dots .25, globules .2, blotch .2, streaks .1",
            "irregular 4, fading 4", (0.15, 0.75)),
    },
    "nv": {
        "reticular": _look(0.28, "light brown 6, dark brown 4", "dark brown .2",
            "pigment network .96, dots .1, globules .1, blotch .08", "fading 6, sharp 2, irregular 1", (0.6, 1.0)),
        "globular": _look(0.16, "light brown 6, dark brown 3, pink .5", "dark brown .12",
            "globules .97, pigment network .15, dots .08, milia-like cysts .04", "fading 4, sharp 5", (0.6, 1.0)),
        "homogeneous": _look(0.18, "light brown 5, dark brown 4, pink 1", "pink .1, dark brown .1",
            "pigment network .15, globules .12, dots .06", "fading 5, sharp 4", (0.6, 1.0)),
        "two-toned": _look(0.14, "light brown 7, dark brown 2", "dark brown .85, pink .08",
            "pigment network .6, globules .2, blotch .25", "fading 5, sharp 3, irregular 1", (0.5, 0.95)),
        "atypical": _look(0.08, "light brown 5, dark brown 4, pink 1", "dark brown .45, pink .25",
            "atypical network .3, pigment network .5, globules .35, dots .2, blotch .25, regression .05",
            "fading 4, irregular 5", (0.2, 0.75), _WILD),
        "dermal": _look(0.08, "skin-coloured 5, light brown 3, pink 2", "light brown .4",
            "comma vessels .75, globules .25, milia-like cysts .1, cerebriform ridges .12", "sharp 4, fading 5",
            (0.6, 1.0)),
        "blue": _look(0.04, "blue-grey 9, black 1", "", "blue-white veil .15, white patch .05", "fading 6, sharp 3",
            (0.7, 1.0)),
        "starburst": _look(0.04, "dark brown 6, black 4", "blue-grey .15",
            "streaks .95, blotch .4, globules .2, pigment network .2, blue-white veil .1", "sharp 6, irregular 1",
            (0.75, 1.0)),
    },
    "vasc": {
        "lacunar": _look(0.32, "red 7, pink 2", "", "red lacunae .98, white lines .05", "sharp 6, fading 2",
            (0.5, 1.0), "round 5, lobed 3, several .7, elongated 1" ),
        "homogeneous": _look(0.2, "red 9, pink 1", "pink .08, blue-grey .15",
            "red lacunae .25, dotted vessels .1, white lines .12", "sharp 6, fading 3", (0.6, 1.0)),
        "thrombosed": _look(0.12, "red 6, black 2", "blue-grey .15, black .2",
            "dark clots .95, red lacunae .5, crust .1", "sharp 6, irregular 2", (0.4, 0.95)),
        "spider": _look(0.12, "pink 8, red 2", "",
            "arborising vessels .3, irregular vessels .55, dotted vessels .5, red lacunae .15",
            "fading 9, irregular 1", (0.4, 1.0), _FACE),
        "angiokeratoma": _look(0.14, "red 5, dark brown 1, blue-grey 1", "black .2, blue-grey .2",
            "dark clots .8, red lacunae .8, blue-white veil .4, scale .35, crust .3", "sharp 5, irregular 2",
            (0.4, 0.95), "round 5, lobed 3, several 1" ),
        "granuloma": _look(0.1, "red 8, pink 2", "white .3",
            "ulceration .4, white lines .45, crust .3, irregular vessels .15, scale .25", "sharp 9, fading 1",
            (0.6, 1.0)),
    },
    "scc": {
        "keratinising": _look(0.4, "pink 6, red 0.8, skin-coloured 1", "white .4, yellow .3",
            "keratin mass .92, white circles .5, hairpin vessels .5, irregular vessels .25, scale .3, ulceration .15",
            "sharp 4, fading 3, irregular 2", (0.45, 0.95)),
        "ulcerated": _look(0.25, "red 2, pink 4", "yellow .25, white .25",
            "ulceration .92, crust .6, irregular vessels .5, hairpin vessels .2, coiled vessels .15, scale .2, "
            "white circles .15", "irregular 5, fading 3, sharp 1", (0.2, 0.8), _WILD),
        "circles": _look(0.2, "pink 6, white 1, yellow 1", "white .4, yellow .25",
            "white circles .96, scale .4, coiled vessels .25, hairpin vessels .3, crust .2, keratin mass .15",
            "irregular 4, fading 4, sharp 1", (0.3, 0.85), _WILD),
        "flat": _look(0.15, "pink 5, red 1.2", "light brown .15, yellow .2, white .2",
            "coiled vessels .7, scale .75, crust .4, irregular vessels .3, white circles .2", "irregular 5, fading 4",
            (0.2, 0.8), _WILD),
    },
}  # fmt: skip
