"""What `training` does round the network: where it writes, what it records."""

from __future__ import annotations

from pathlib import Path

import pytest

from tissuebridge.errors import StorageError
from tissuebridge.training import check_writable


def test_a_folder_that_cannot_be_written_is_found_out_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StorageError, match="--output"):
        check_writable(tmp_path / "file" / "model")
