"""Run a notebook's cells one after another, and print what each would show: JSON, null for nothing.

    python run_notebook.py answers.ipynb

As Jupyter does it, but for its own commands: what is shown is the value of a cell's last line.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path


def main() -> None:
    cells = json.loads(Path(sys.argv[1]).read_text("utf-8"))["cells"]
    names: dict[str, object] = {}
    shown = []
    for cell in cells:
        if cell["cell_type"] == "code":
            *lines, last = ast.parse("".join(cell["source"])).body
            value = None
            if isinstance(last, ast.Expr):
                value = ast.Expression(last.value)
            else:
                lines.append(last)
            exec(compile(ast.Module(lines, []), "cell", "exec"), names)
            found = value and eval(compile(value, "cell", "eval"), names)
            shown.append(None if found is None else repr(found))
    json.dump(shown, sys.stdout)


if __name__ == "__main__":
    main()
