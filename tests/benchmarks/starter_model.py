"""How the starter model was made: run by hand, never in CI.

    python tests/benchmarks/starter_model.py NUCLEI MIXED WORK [--settings tests/benchmarks/starter_model.toml]

NUCLEI is the TNBC set (Naylor et al. 2019, H&E tiles of 11 patients, split by patient), MIXED has the NuCLS examples
(Amgad et al. 2022, H&E crops named `breast_*`), both as folder projects. All nuclei are one class. Trains in WORK,
measures on the test images of each set, and writes the model into WORK/starter; what is found good is copied into
`bridge/tissuebridge/starter`. An interrupted run goes on when it is started again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tissuebridge.classes import ClassMap
from tissuebridge.evaluation import EvaluationOptions, measure
from tissuebridge.files import atomic_write
from tissuebridge.model_card import CARD_FILE, model_card
from tissuebridge.predictor.local import LocalPredictor
from tissuebridge.project.folder import FolderProject
from tissuebridge.settings import read_settings
from tissuebridge.training import Progress, TrainingOptions, train
from tissuemodel.checkpoint import load_checkpoint, make_checkpoint, save_checkpoint
from tissuemodel.saved_model import CONFIG_FILE

PIXEL_SIZE_UM = 0.25
SETS = {"TNBC test patients": "tnbc_", "NuCLS test crops": "breast_"}
ALIASES = dict.fromkeys(("Tumor cell", "Stromal cell", "Lymphocyte", "Other cell"), "Nucleus")
ABOUT = {
    "description": "nuclei in H&E-stained tissue (breast cancer), one class",
    "licence": "TNBC: CC BY 4.0; NuCLS examples: CC0 1.0",
    "citation": (
        "Naylor P., Laé M., Reyal F., Walter T. (2019), IEEE Trans. Med. Imaging 38(2), doi:10.1109/TMI.2018.2865709, "
        "data doi:10.5281/zenodo.2579118; Amgad M. et al. (2022), GigaScience 11, doi:10.1093/gigascience/giac037"
    ),
}


def combined(nuclei: Path, mixed: Path, folder: Path) -> Path:
    """Both sets in one folder, with the splits of each."""
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for part in ("images", "annotations"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for source, prefix in ((nuclei, "tnbc_"), (mixed, "breast_")):
        for split, names in json.loads((source / "splits.json").read_text()).items():
            own = [name for name in names if name.startswith(prefix)]
            splits[split] += own
            for name in own:
                shutil.copyfile(source / "images" / f"{name}.png", folder / "images" / f"{name}.png")
                annotations = f"annotations/{name}.geojson"
                shutil.copyfile(source / annotations, folder / annotations)
    (folder / "splits.json").write_text(json.dumps(splits, indent=1))
    return folder


def measured(folder: Path, prefix: str, predictor: LocalPredictor) -> dict[str, Any]:
    """The scores on one set's test images."""
    project = FolderProject(folder, PIXEL_SIZE_UM)
    splits = project.splits or {}
    alone = folder.with_name(f"{folder.name}-{prefix.rstrip('_')}")
    for part in ("images", "annotations"):
        shutil.rmtree(alone / part, ignore_errors=True)
        (alone / part).mkdir(parents=True)
    for image in project.images:
        if image.name in splits["test"] and image.name.startswith(prefix):
            for file in image.files:
                shutil.copyfile(file, alone / file.relative_to(folder))
    options = EvaluationOptions(class_map=ClassMap(aliases=ALIASES))
    return measure(FolderProject(alone, PIXEL_SIZE_UM), predictor, options).scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("nuclei", "mixed", "work"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--settings", type=Path, default=Path(__file__).with_name("starter_model.toml"))
    asked = parser.parse_args()
    folder = combined(asked.nuclei, asked.mixed, asked.work / "h_and_e_nuclei")
    output = asked.work / "starter"
    if not (output / CONFIG_FILE).exists() or (output / "training.safetensors").exists():
        options = TrainingOptions(settings=read_settings(asked.settings), class_map=ClassMap(aliases=ALIASES))
        with tqdm(unit="step") as bar:

            def step(done: int, steps: int, numbers: Any) -> None:
                bar.total = steps
                bar.set_postfix(loss=numbers["loss"], refresh=False)
                bar.update(done - bar.n)

            done = train(FolderProject(folder, PIXEL_SIZE_UM), output, options, Progress(print, step))
        if done["interrupted"]:
            return
    trained = load_checkpoint(output)
    predictor = LocalPredictor(trained)
    results = {title: measured(folder, prefix, predictor) for title, prefix in SETS.items()}
    for scores in results.values():
        scores["images"] = len(scores["images"])
        del scores["confusion"]
    record = {**trained.record, **ABOUT, "measured_on": results}
    model = make_checkpoint("starter", trained.config, trained.network, record)
    save_checkpoint(model, output)
    with atomic_write(output / CARD_FILE) as file:
        file.write(model_card(model.about()).encode())
    print((output / CARD_FILE).read_text())


if __name__ == "__main__":
    main()
