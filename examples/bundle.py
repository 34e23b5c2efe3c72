#!/usr/bin/env python3
"""Prints a folder of policies as the body that PUT /v1/policies takes.

    python3 examples/bundle.py policies/clinical "why it changes"
"""

import json
import pathlib
import sys


def bundle(folder, note=""):
    folder = pathlib.Path(folder)
    links = folder / "links.json"
    return {
        "schema": (folder / "wardkeep.cedarschema").read_text("utf-8"),
        "policies": "\n".join(path.read_text("utf-8") for path in sorted(folder.glob("*.cedar"))),
        "links": json.loads(links.read_text("utf-8")) if links.exists() else [],
        "note": note,
    }


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    json.dump(bundle(*sys.argv[1:]), sys.stdout)
