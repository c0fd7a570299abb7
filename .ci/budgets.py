"""The budgets that neither rustc nor clippy holds: file length, TODO, unsafe."""

import pathlib
import re
import sys

MAX_LINES = 400
TODO = re.compile(r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))")
UNSAFE = re.compile(r"\bunsafe\b")
INLINE_TESTS = re.compile(r"^#\[cfg\(test\)\]\nmod \w+ \{", re.MULTILINE)


def is_test(path: pathlib.Path) -> bool:
    return path.name == "tests.rs" or "tests" in path.parts


def code_lines(text: str) -> int:
    tests = INLINE_TESTS.search(text)
    return text[: tests.start() if tests else None].count("\n")


def problems(path: pathlib.Path):
    text = path.read_text()
    lines = code_lines(text)
    if not is_test(path) and lines > MAX_LINES:
        yield f"{path}: {lines} lines without tests, {MAX_LINES} are allowed: split it"
    for number, line in enumerate(text.splitlines(), 1):
        if TODO.search(line):
            yield f"{path}:{number}: give the TODO its issue, as TODO(#12)"
        if path.suffix == ".rs" and UNSAFE.search(line.split("//")[0]):
            yield f"{path}:{number}: unsafe code is forbidden"


def main() -> int:
    files = [pathlib.Path("build.rs")]
    for folder in ("src", "tests", "benches", "fuzz/fuzz_targets"):
        for suffix in ("rs", "go"):
            files += sorted(pathlib.Path(folder).rglob(f"*.{suffix}"))
    found = [problem for path in files for problem in problems(path)]
    print("\n".join(found) if found else f"budgets: {len(files)} files hold them")
    return 1 if found else 0


sys.exit(main())
