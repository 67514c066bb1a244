"""The files for Meltano have the settings of the code."""

from __future__ import annotations

from runpy import run_path

import pytest
from environments import ROOT

DESCRIBE = run_path(str(ROOT / "plugins/describe.py"))


@pytest.mark.parametrize("path", DESCRIBE["FILES"], ids=lambda path: path.name)
def test_the_settings_are_those_of_the_code(path):
    """To update them: make docs"""
    text = path.read_text("utf-8")
    assert text == DESCRIBE["described"](text)


def test_a_file_without_markers_is_refused():
    with pytest.raises(ValueError, match="markers"):
        DESCRIBE["described"]("settings:\n")
