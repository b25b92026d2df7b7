"""Classes of the MedMNIST sets, in the order of their labels, in the words of the specialists who read such pictures.

The order is that of the sets' authors (MedMNIST 3.0.2); the classes of DermaMNIST are those of HAM10000.
"""

from __future__ import annotations

from typing import Final

from ..cohort import ClassLabel, Code
from .ham10000 import HAM10000


def _snomed(code: str, display: str) -> tuple[Code, ...]:
    return (Code("SNOMED CT", code, display),)


DERMA: Final = tuple(
    HAM10000.classes[HAM10000.class_names.index(name)] for name in ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
)


def _tissue(name: str, clinical: str, looks: str, *aliases: str) -> ClassLabel:
    words = clinical[0].lower() + clinical[1:]
    return ClassLabel(
        name=name,
        clinical_name=clinical,
        prompts=(
            f"a histology patch of colorectal tissue showing {words}",
            f"a haematoxylin and eosin stained section with {looks}",
            f"{words} in a colorectal cancer slide under the microscope",
        ),
        aliases=aliases,
    )


PATH: Final = (
    _tissue("adipose", "Adipose tissue", "empty, round fat cells and thin septa", "adi"),
    _tissue("background", "Slide background", "bright glass without any tissue", "back"),
    _tissue("debris", "Debris", "necrotic, cell-free debris", "deb"),
    _tissue("lymphocytes", "Lymphocytes", "densely packed small, dark, round nuclei", "lym"),
    _tissue("mucus", "Mucus", "pale, bluish extracellular mucin", "muc"),
    _tissue("smooth muscle", "Smooth muscle", "eosinophilic bundles of spindle cells", "mus"),
    _tissue("normal colon mucosa", "Normal colon mucosa", "regular, round crypts with goblet cells", "norm"),
    _tissue(
        "cancer-associated stroma", "Cancer-associated stroma", "desmoplastic, fibrous stroma around tumour", "str"
    ),
    _tissue(
        "colorectal adenocarcinoma epithelium",
        "Colorectal adenocarcinoma epithelium",
        "irregular malignant glands with crowded nuclei",
        "tum",
    ),
)


def _oct(name: str, clinical: str, looks: str, aliases: tuple[str, ...], codes: tuple[Code, ...] = ()) -> ClassLabel:
    words = clinical[0].lower() + clinical[1:]
    return ClassLabel(
        name=name,
        clinical_name=clinical,
        prompts=(
            f"a retinal optical coherence tomography scan showing {words}",
            f"an OCT B-scan of the macula with {looks}",
            f"{words} on optical coherence tomography of the retina",
        ),
        aliases=aliases,
        codes=codes,
    )


OCT: Final = (
    _oct(
        "choroidal neovascularization",
        "Choroidal neovascularisation",
        "a subretinal neovascular membrane and subretinal fluid",
        ("cnv", "choroidal neovascularisation"),
    ),
    _oct(
        "diabetic macular edema",
        "Diabetic macular oedema",
        "intraretinal cystoid fluid and a thickened retina",
        ("dme", "diabetic macular oedema"),
        _snomed("312912001", "Macular edema due to diabetes mellitus"),
    ),
    _oct("drusen", "Drusen", "dome-shaped deposits below the retinal pigment epithelium", ()),
    _oct("normal", "Normal retina", "a normal foveal contour and no fluid", ()),
)

PNEUMONIA: Final = (
    ClassLabel(
        name="normal",
        clinical_name="No pneumonia",
        prompts=(
            "a chest radiograph of a child with clear lungs",
            "a normal paediatric chest X-ray",
            "a frontal chest X-ray without consolidation or effusion",
        ),
    ),
    ClassLabel(
        name="pneumonia",
        clinical_name="Pneumonia",
        prompts=(
            "a chest radiograph of a child with pneumonia",
            "a paediatric chest X-ray showing pulmonary consolidation",
            "a frontal chest X-ray with airspace opacities of pneumonia",
        ),
        codes=_snomed("233604007", "Pneumonia"),
    ),
)


def _retinopathy(grade: int, name: str, clinical: str, looks: str, codes: tuple[Code, ...] = ()) -> ClassLabel:
    words = clinical[0].lower() + clinical[1:]
    return ClassLabel(
        name=name,
        clinical_name=clinical,
        prompts=(
            f"a colour fundus photograph showing {words}",
            f"a photograph of the retina with {looks}",
            f"the fundus of a diabetic patient with {words}",
        ),
        aliases=(str(grade),),
        codes=codes,
    )


RETINA: Final = (
    _retinopathy(0, "no retinopathy", "No apparent diabetic retinopathy", "no microaneurysm and no haemorrhage"),
    _retinopathy(
        1,
        "mild",
        "Mild non-proliferative diabetic retinopathy",
        "a few microaneurysms only",
        _snomed("312903003", "Mild nonproliferative retinopathy due to diabetes mellitus"),
    ),
    _retinopathy(
        2,
        "moderate",
        "Moderate non-proliferative diabetic retinopathy",
        "microaneurysms, dot and blot haemorrhages and hard exudates",
        _snomed("312904009", "Moderate nonproliferative retinopathy due to diabetes mellitus"),
    ),
    _retinopathy(
        3,
        "severe",
        "Severe non-proliferative diabetic retinopathy",
        "haemorrhages in four quadrants, venous beading or intraretinal microvascular abnormalities",
        _snomed("312905005", "Severe nonproliferative retinopathy due to diabetes mellitus"),
    ),
    _retinopathy(
        4,
        "proliferative",
        "Proliferative diabetic retinopathy",
        "new vessels, vitreous haemorrhage or fibrous proliferation",
        _snomed("59276001", "Proliferative retinopathy due to diabetes mellitus"),
    ),
)

BREAST: Final = (
    ClassLabel(
        name="malignant",
        clinical_name="Malignant breast lesion",
        prompts=(
            "a breast ultrasound image of a malignant mass",
            "a breast sonogram with an irregular, spiculated, hypoechoic mass",
            "an ultrasound scan of a breast carcinoma, taller than wide, with posterior shadowing",
        ),
        aliases=("breast cancer",),
        codes=_snomed("254837009", "Malignant neoplasm of breast"),
    ),
    ClassLabel(
        name="normal or benign",
        clinical_name="Normal breast or benign lesion",
        prompts=(
            "a breast ultrasound image without a malignant mass",
            "a breast sonogram with an oval, circumscribed, benign mass",
            "an ultrasound scan of normal breast tissue or of a benign cyst or fibroadenoma",
        ),
        aliases=("normal, benign",),
    ),
)


def _blood(name: str, clinical: str, looks: str, codes: tuple[Code, ...] = (), *aliases: str) -> ClassLabel:
    words = clinical[0].lower() + clinical[1:]
    article = "an" if words[0] in "aei" else "a"
    return ClassLabel(
        name=name,
        clinical_name=clinical,
        prompts=(
            f"a peripheral blood smear showing {article} {words}",
            f"a stained blood cell with {looks}",
            f"a microscope image of {article} {words} in normal blood",
        ),
        aliases=aliases,
        codes=codes,
    )


BLOOD: Final = (
    _blood("basophil", "Basophil", "coarse, dark purple granules over the nucleus"),
    _blood("eosinophil", "Eosinophil", "a bilobed nucleus and orange granules"),
    _blood("erythroblast", "Erythroblast", "a small, round, dense nucleus and basophilic cytoplasm"),
    _blood(
        "immature granulocyte",
        "Immature granulocyte (myelocyte, metamyelocyte or promyelocyte)",
        "an unsegmented or indented nucleus and fine granules",
        (),
        "immature granulocytes",
        "ig",
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
    ),
    _blood(
        "lymphocyte",
        "Lymphocyte",
        "a round, dense nucleus and scant pale cytoplasm",
        _snomed("56972008", "Lymphocyte"),
    ),
    _blood("monocyte", "Monocyte", "a kidney-shaped nucleus and grey-blue cytoplasm with vacuoles"),
    _blood("neutrophil", "Neutrophil", "a segmented nucleus of three to five lobes"),
    _blood("platelet", "Platelet", "no nucleus, a small granular fragment"),
)


def _kidney(name: str, clinical: str, *aliases: str) -> ClassLabel:
    words = clinical[0].lower() + clinical[1:]
    return ClassLabel(
        name=name,
        clinical_name=clinical,
        prompts=(
            f"a fluorescence microscopy image of {words} of the human kidney cortex",
            f"a kidney cortex cell with its nucleus stained, one of the {words}",
            f"{words} in a tissue cytometry of the renal cortex",
        ),
        aliases=aliases,
    )


TISSUE: Final = (
    _kidney("collecting duct", "Collecting duct and connecting tubule cells", "collecting duct, connecting tubule"),
    _kidney("distal convoluted tubule", "Distal convoluted tubule cells"),
    _kidney("glomerular endothelial cells", "Glomerular endothelial cells"),
    _kidney("interstitial endothelial cells", "Interstitial endothelial cells"),
    _kidney("leukocytes", "Leukocytes", "leucocytes"),
    _kidney("podocytes", "Podocytes"),
    _kidney("proximal tubule segments", "Proximal tubule cells"),
    _kidney("thick ascending limb", "Thick ascending limb cells"),
)


def organs(view: str) -> tuple[ClassLabel, ...]:
    """The eleven organs, with the view (axial, coronal or sagittal) in the prompts."""
    article = "an" if view == "axial" else "a"
    return tuple(
        ClassLabel(
            name=name,
            clinical_name=clinical,
            prompts=(
                f"{article} {view} CT image of the {words}",
                f"{article} {view} slice of an abdominal CT scan centred on the {words}",
                f"the {words} on {article} {view} computed tomography in the abdominal window",
            ),
            codes=codes,
        )
        for name, clinical, words, codes in _ORGANS
    )


_ORGANS: Final[tuple[tuple[str, str, str, tuple[Code, ...]], ...]] = (
    ("bladder", "Urinary bladder", "urinary bladder", _snomed("89837001", "Urinary bladder structure")),
    ("femur-left", "Left femur", "left femoral head", ()),
    ("femur-right", "Right femur", "right femoral head", ()),
    ("heart", "Heart", "heart", _snomed("80891009", "Heart structure")),
    ("kidney-left", "Left kidney", "left kidney", _snomed("18639004", "Left kidney structure")),
    ("kidney-right", "Right kidney", "right kidney", _snomed("9846003", "Right kidney structure")),
    ("liver", "Liver", "liver", _snomed("10200004", "Liver structure")),
    ("lung-left", "Left lung", "left lung", _snomed("44029006", "Left lung structure")),
    ("lung-right", "Right lung", "right lung", _snomed("3341006", "Right lung structure")),
    ("pancreas", "Pancreas", "pancreas", _snomed("15776009", "Pancreatic structure")),
    ("spleen", "Spleen", "spleen", _snomed("78961009", "Splenic structure")),
)
