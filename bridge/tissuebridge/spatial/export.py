"""Tables and cells for other programs: Parquet, and AnnData as squidpy and scanpy read it; each needs an extra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tissuebridge.errors import UsageError
from tissuebridge.files import atomic_write, storage_error
from tissuebridge.spatial.rows import Row

_LABELS: Final = ("Class", "Region")
_NO_NUMBERS: Final = (*_LABELS, "x µm", "y µm", "Object")


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows as Parquet; a column with texts is text, one without any value is left empty.

    Raises:
        StorageError: The file could not be written.
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UsageError("--parquet needs pyarrow: pip install 'tissuebridge[parquet]'") from error
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = arrow.table({name: arrow.array([row.get(name) for row in rows]) for name in columns})
    with atomic_write(path) as file:
        parquet.write_table(table, file)


def write_anndata(path: Path, columns: Mapping[str, NDArray[np.generic]]) -> None:
    """Writes the cells as AnnData (h5ad): classes in `obs`, numbers in `X`, places in um in `obsm["spatial"]`.

    Args:
        path: The file.
        columns: From `measure.cell_table`.

    Raises:
        StorageError: The file could not be written.
        UsageError: anndata is not installed.
    """
    try:
        import anndata
        import pandas as pd
    except ImportError as error:
        raise UsageError("--anndata needs anndata: pip install 'tissuebridge[anndata]'") from error
    count = len(columns["Class"])
    numbers = [name for name in columns if name not in _NO_NUMBERS]
    values = [np.asarray(columns[name], np.float32) for name in numbers]
    data = anndata.AnnData(
        X=np.stack(values, axis=1) if values else np.zeros((count, 0), np.float32),
        obs=pd.DataFrame(
            {name: pd.Categorical(columns[name].astype(str)) for name in _LABELS},
            index=[str(place) for place in range(count)],
        ),
        var=pd.DataFrame(index=numbers),
        obsm={"spatial": np.stack([columns["x µm"], columns["y µm"]], axis=1).astype(np.float64)},
        uns={"spatial_unit": "µm"},
    )
    fresh = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        data.write_h5ad(fresh)
        fresh.replace(path)
    except OSError as error:
        raise storage_error(path, error) from error
