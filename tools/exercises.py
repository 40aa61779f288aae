"""Make the exercises from their solutions; only the solutions are written by hand.

usage: python -m tools.exercises

In a solution, `rds-x-solution.ipynb`, the lines between nbgrader's marks `### BEGIN SOLUTION` and `### END SOLUTION`
are left to the learner, and a cell with the tag `solution` is left out. nbgrader itself would bring eight packages, a
database among them, for what is here.
"""

import re
from pathlib import Path

import nbformat

FOLDER = Path(__file__).resolve().parents[1] / "notebooks" / "exercises"
SOLVED = re.compile(r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$", re.DOTALL | re.MULTILINE)
LINK = "## Solution\n\nCompare yours with [ours]({}), after you have tried."


def main():
    """Write every exercise beside its solution."""
    for solution in solutions():
        path = exercise_path(solution)
        nbformat.write(exercise(solution), path)
        print(path.relative_to(FOLDER.parents[1]).as_posix())


def solutions():
    """Return the paths of the solutions."""
    return sorted(FOLDER.glob("*-solution.ipynb"))


def exercise_path(solution):
    """Return where the exercise of the solution at this path belongs."""
    return solution.with_name(solution.name.replace("-solution", ""))


def exercise(solution):
    """Return the exercise of the solution at this path: a notebook that the book shows and does not execute."""
    notebook = nbformat.read(solution, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        cell.source = SOLVED.sub(r"\1# Your code here", cell.source)
    notebook.cells[0].source = notebook.cells[0].source.replace(", solved", "", 1)
    notebook.cells.append(nbformat.v4.new_markdown_cell(LINK.format(solution.name), id="solution"))
    about = notebook.metadata["myst"]["html_meta"]
    about["description"] = about["description"].replace(", solved", "", 1)
    notebook.metadata["mystnb"] = {"execution_mode": "off"}  # unsolved, it cannot run
    return notebook


if __name__ == "__main__":
    main()
