"""How large the package is, in files, lines and functions; the table of docs/architecture.md.

python -m benchmarks.size [FOLDER ...]
"""

import ast
import sys
from pathlib import Path
from statistics import median

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def docstring_lines(tree: ast.AST) -> set[int]:
    """The lines of all docstrings, those of attributes included."""
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS))]
    texts = [e for body in bodies for e in body if isinstance(e, ast.Expr) and isinstance(e.value, ast.Constant)]
    return {line for text in texts if isinstance(text.value.value, str) for line in range(text.lineno, text.end_lineno + 1)}


def main() -> None:
    """A line for each folder."""
    for folder in sys.argv[1:] or ["mm_ray"]:
        files, functions, code = [], [], 0
        for path in Path(folder).rglob("*.py"):
            tree, lines = ast.parse(path.read_text()), path.read_text().splitlines()
            inside = docstring_lines(tree)
            code += sum(bool(text.strip(" ")) and text.strip()[0] != "#" and n not in inside for n, text in enumerate(lines, 1))
            files.append(len(lines))
            functions += [node.end_lineno - node.lineno + 1 for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
        print(f"{folder}: {len(files)} files, {sum(files):,} lines, {code:,} of code, {len(functions):,} functions; ", end="")
        print(f"median file {median(files):g}, median function {median(functions):g} lines")


if __name__ == "__main__":
    main()
