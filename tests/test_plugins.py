"""What stands in the files for Meltano is what the code says."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import pytest

ROOT = Path(__file__).parent.parent
DESCRIBE = run_path(str(ROOT / "plugins/describe.py"))


@pytest.mark.parametrize("path", DESCRIBE["FILES"], ids=lambda path: path.name)
def test_the_settings_are_those_of_the_code(path):
    """To renew them: python plugins/describe.py"""
    text = path.read_text("utf-8")
    assert text == DESCRIBE["described"](text)


def test_a_file_without_the_marks_is_refused():
    with pytest.raises(ValueError, match="marks"):
        DESCRIBE["described"]("settings:\n")
