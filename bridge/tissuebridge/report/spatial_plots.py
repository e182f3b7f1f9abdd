"""What a page on spatial statistics shows, drawn for light and for dark pages: from rows of `spatial.measure`.

Rows and a `Tissue` come in, drawings go out. Nothing of matplotlib's global state is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import shapely
from matplotlib.collections import PatchCollection
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from shapely.geometry import Polygon

from tissuebridge.report.curves import Colors
from tissuebridge.report.figures import PALETTE, SIZE_PX, figure_picture, legend
from tissuebridge.report.page import Drawing
from tissuebridge.spatial.rows import Row
from tissuebridge.spatial.tissue import Tissue

MAX_POINTS: Final = 20_000
"""Of each class on the map; more are a sample, and the caption says so."""


def map_picture(tissue: Tissue) -> Drawing:
    """Where the regions and the cells are, in um."""
    left, top, right, bottom = tissue.window.area.bounds
    rng = np.random.default_rng(0)

    def draw(axes: Any, colors: Colors) -> None:
        for place, (name, region) in enumerate(tissue.regions.items()):
            patches = [PathPatch(_path(part)) for part in shapely.get_parts(region.area) if not part.is_empty]
            color = PALETTE[place % len(PALETTE)]
            axes.add_collection(
                PatchCollection(
                    patches, facecolor=color, alpha=0.25, edgecolor=color, linewidth=0.8, rasterized=True
                )
            )
            axes.plot([], [], "s", color=color, alpha=0.5, label=name)
        for place, (name, points) in enumerate(tissue.cells.items(), len(tissue.regions)):
            shown = points if len(points) <= MAX_POINTS else rng.choice(points, MAX_POINTS, replace=False)
            color = PALETTE[place % len(PALETTE)]
            size = float(np.clip(4e4 / max(len(shown), 1), 0.5, 9))
            axes.scatter(
                *shown.T,
                s=size,
                color=color,
                linewidths=0,
                label=f"{name} ({len(points):,})",
                rasterized=True,
            )
        axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xlabel="µm", ylabel="µm")
        legend(axes, colors)

    sampled = [name for name, points in tissue.cells.items() if len(points) > MAX_POINTS]
    more = f" Of {', '.join(sampled)} {MAX_POINTS:,} are shown." if sampled else ""
    return figure_picture(draw, "Regions and cells", f"Regions and cells.{more}", (760, 560))


def profile_picture(rows: Sequence[Row], region: str) -> Drawing:
    """Infiltration: cells per mm^2 in bands of distance from a region's border, with 95 % intervals."""

    def draw(axes: Any, colors: Colors) -> None:
        for place, name in enumerate(_names(rows, "class")):
            own = [row for row in rows if row["class"] == name and row["cells_per_mm2"] is not None]
            if not own:
                continue
            middle = np.array([(_of(row, "from_um") + _of(row, "to_um")) / 2 for row in own])
            value, low, high = (
                np.array([_of(row, key) for row in own]) for key in ("cells_per_mm2", "low", "high")
            )
            color = PALETTE[place % len(PALETTE)]
            axes.fill_between(middle, low, high, color=color, alpha=0.2, linewidth=0)
            axes.plot(middle, value, "o-", color=color, markersize=3.5, linewidth=1.5, label=name)
        axes.axvline(0, color=colors.soft, linewidth=0.8)
        axes.set(xlabel=f"µm from the border of {region} (negative: inside)", ylabel="cells per mm²")
        # A narrow band's interval may reach far beyond what is worth a look.
        known = [_of(row, "cells_per_mm2") for row in rows if row["cells_per_mm2"] is not None]
        axes.set_ylim(0, 1.6 * max([*known, 1e-9]))
        legend(axes, colors)

    caption = f"Infiltration at {region}: density in bands of distance, with 95 % intervals."
    return figure_picture(draw, f"Cell densities by distance from the border of {region}", caption)


def curve_picture(rows: Sequence[Row], title: str) -> Drawing:
    """An L function less what chance gives, with the pointwise and the global envelope."""

    def draw(axes: Any, colors: Colors) -> None:
        known = [row for row in rows if row["value_um"] is not None and row["chance_um"] is not None]
        r, value, chance = (
            np.array([_of(row, key) for row in known]) for key in ("r_um", "value_um", "chance_um")
        )
        for low, high, alpha in (("global_low_um", "global_high_um", 0.15), ("low_um", "high_um", 0.3)):
            ends = [np.array([_of(row, key) for row in known]) - chance for key in (low, high)]
            axes.fill_between(r, *ends, color=colors.soft, alpha=alpha, linewidth=0)
        axes.axhline(0, color=colors.soft, linewidth=0.8)
        axes.plot(r, value - chance, color=colors.line, linewidth=1.8)
        axes.set(xlabel="r in µm", ylabel="L(r) less chance, µm")

    caption = (
        f"{title}. Above the band: nearer to each other than by chance. Dark band: at each r; light: at all."
    )
    return figure_picture(draw, title, caption)


def coupling_picture(rows: Sequence[Row]) -> Drawing:
    """The share of each class's cells that keep to a border beyond chance, with intervals where there are any."""

    def draw(axes: Any, colors: Colors) -> None:
        names = [f"{row['class']}, {row['structure']}" for row in rows]
        places = np.arange(len(rows))
        values = np.array([100 * _of(row, "coupled_fraction") for row in rows])
        axes.barh(places, values, color=colors.line, height=0.6)
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set(xlabel="cells beyond chance, %")
        axes.set_xlim(left=0)

    size = (SIZE_PX[0], max(160, 60 + 34 * len(rows)))
    return figure_picture(draw, "Coupled cells", "Share of cells that keep to a border beyond chance.", size)


def enrichment_picture(rows: Sequence[Row]) -> Drawing:
    """How often cells of two classes are neighbours, against chance: z of each pair."""
    names = _names(rows, "class")
    names += [name for name in _names(rows, "other") if name not in names]
    z = np.full((len(names), len(names)), np.nan)
    for row in rows:
        if row["z"] is not None:
            a, b = names.index(str(row["class"])), names.index(str(row["other"]))
            z[a, b] = z[b, a] = _of(row, "z")
    limit = max(3.0, float(np.nanmax(np.abs(z))) if np.isfinite(z).any() else 3.0)

    def draw(axes: Any, colors: Colors) -> None:
        axes.imshow(z, cmap="PuOr_r", vmin=-limit, vmax=limit)
        for (row, col), value in np.ndenumerate(z):
            if np.isfinite(value):
                ink = "white" if abs(value) > 0.7 * limit else "black"
                axes.text(col, row, f"{value:.1f}", ha="center", va="center", fontsize=8, color=ink)
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.set_yticks(range(len(names)), names)

    side = 160 + 70 * len(names)
    caption = (
        "Neighbours of each pair of classes against chance, as z: orange more often, purple more seldom."
    )
    return figure_picture(draw, "Neighbourhood enrichment", caption, (min(side + 80, 760), min(side, 680)))


def agreement_picture(areas: Sequence[Row], row: Row) -> Drawing:
    """Bland & Altman's plot of a class: the difference of two counts over their mean, an area a disc."""
    name = str(row["class"])

    def draw(axes: Any, colors: Colors) -> None:
        manual, automatic = (np.array([_of(area, key) for area in areas]) for key in ("manual", "automatic"))
        axes.axhline(0, color=colors.soft, linewidth=0.8)
        for key, ends, style, band in (
            ("lower_limit", "lower_limit", "--", colors.soft),
            ("upper_limit", "upper_limit", "--", colors.soft),
            ("mean_difference", "mean", "-", colors.line),
        ):
            if row[key] is not None:
                low, high = _of(row, f"{ends}_low"), _of(row, f"{ends}_high")
                axes.axhspan(low, high, color=band, alpha=0.18, linewidth=0)
                axes.axhline(_of(row, key), color=colors.line, linewidth=1.4, linestyle=style)
        axes.plot((manual + automatic) / 2, automatic - manual, "o", color=colors.point, markersize=5)
        axes.set(xlabel="mean of both counts, cells an area", ylabel="automatic less manual, cells")

    limits = (
        ""
        if row["sd"] is None
        else (
            " Line: mean difference; dashed: limits of agreement, between which 95 % of the differences are expected; "
            "bands: 95 % intervals, of the mean blue."
        )
    )
    return figure_picture(
        draw, f"Agreement of the counts of {name}", f"{name}: every disc is an area.{limits}"
    )


def sensitivity_picture(rows: Sequence[Row]) -> Drawing:
    """How many of its cells each class keeps as the threshold is moved up; rows of the whole window, all images."""

    def draw(axes: Any, colors: Colors) -> None:
        for place, name in enumerate(_names(rows, "class")):
            own = [row for row in rows if row["class"] == name]
            moved, cells = (np.array([_of(row, key) for row in own]) for key in ("moved", "cells"))
            at = np.unique(moved)
            left = np.array([cells[moved == one].sum() for one in at])
            axes.plot(at, 100 * left / max(left[0], 1), "o-", color=PALETTE[place % len(PALETTE)], label=name,
                      markersize=3.5, linewidth=1.5)  # fmt: skip
        axes.set(xlabel="threshold above the lowest score", ylabel="cells left, %", ylim=(0, 105))
        axes.set_xticks(np.unique([_of(row, "moved") for row in rows]))
        legend(axes, colors)

    return figure_picture(
        draw, "Cells left above a higher threshold", "Cells left as the threshold is moved up."
    )


# ---- Drawing ---------------------------------------------------------------------------------------------


def _path(polygon: Polygon) -> Path:
    rings = [polygon.exterior, *polygon.interiors]
    return Path.make_compound_path(*[Path(np.asarray(ring.coords)[:, :2], closed=True) for ring in rings])


def _names(rows: Sequence[Row], column: str) -> list[str]:
    return list(dict.fromkeys(str(row[column]) for row in rows))


def _of(row: Row, column: str) -> float:
    value = row[column]
    return np.nan if value is None else float(value)
