"""The C headers stand alone: in C99 and C++11, with and without the C library, without a warning.

The rule: a host's compiler only reads them here; that guests are built from them is shown by the
committed ones.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HEADERS = Path(__file__).resolve().parents[2] / "sdk/c"
LANGUAGES = {"c99": "c", "c17": "c", "c++11": "c++", "c++17": "c++"}
SOURCES = {
    "spear.h alone": "#include <spear.h>\n",
    "spear.h twice": "#include <spear.h>\n#include <spear.h>\n",
    "without the C library": "#define SPEAR_NO_STDIO\n#include <spear.h>\n",
    "spear_json.h alone": "#include <spear_json.h>\n",
}


@pytest.mark.parametrize("standard", LANGUAGES)
@pytest.mark.parametrize("source", SOURCES)
def test_a_header_stands_alone(source: str, standard: str) -> None:
    language = LANGUAGES[standard]
    compiler = shutil.which("gcc" if language == "c" else "g++")
    if compiler is None:
        pytest.skip(f"no compiler of {language} here")
    command = [
        compiler, "-x", language, f"-std={standard}", "-pedantic-errors", "-Wall", "-Wextra",
        "-Werror", "-Wno-attributes", "-fsyntax-only", "-I", str(HEADERS), "-",
    ]  # fmt: skip
    text = SOURCES[source] + "int main(void) { return 0; }\n"
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
