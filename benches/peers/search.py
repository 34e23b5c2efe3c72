"""The questions of `cargo bench --bench search -- --peers`, put to other libraries on one core.

Reads what the bench wrote: `about.json`, `vectors.f32`, and for each class `NAME.ids` (permitted rows, u32) and `NAME.f32`
(questions). Each library is handed the permitted set ready-made. Prints, for each class, the searches a second at the
cheapest setting that reaches a recall of 0.99 by score, and the wall p99; `no (x)` where none does, with the best recall.

The filter of hnswlib is a Python function here, so a part of its time is Python's: its own C++ callers are faster, by a
factor that the reader may ask of it. usearch takes no filter in Python: as many more are asked for as it takes to have
enough that are permitted.
"""

import json
import sys
import time
from pathlib import Path

import hnswlib
import numpy as np
from usearch.index import Index

K = 10
RECALL = 0.99
WIDTHS = [16, 32, 64, 128, 256, 512]
CONNECTIONS, BREADTH = 16, 200
# what a library may take for one class and setting before it is given up
SECONDS = 60.0


def exact(vectors, ids, question):
    """The permitted rows alone, by numpy."""
    scores = vectors[ids] @ question
    best = np.argpartition(-scores, min(K, len(ids)) - 1)[:K]
    return ids[best]


def build_hnswlib(vectors):
    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), M=CONNECTIONS, ef_construction=BREADTH, random_seed=1)
    index.set_num_threads(1)
    index.add_items(vectors, np.arange(len(vectors)), num_threads=1)

    def search(question, ids, permitted, width):
        index.set_ef(max(width, K))
        wanted = min(K, len(ids))
        try:
            found, _ = index.knn_query(question, k=wanted, num_threads=1, filter=lambda label: permitted[label])
        except RuntimeError:  # fewer than it was asked for
            return np.empty(0, dtype=np.uint32)
        return found[0]

    return search


def build_usearch(vectors):
    index = Index(ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=CONNECTIONS, expansion_add=BREADTH)
    index.add(np.arange(len(vectors)), vectors, threads=1)

    def search(question, ids, permitted, width):
        index.expansion_search = width
        count = K
        while True:
            found = index.search(question, count, threads=1).keys
            found = found[permitted[found]]
            if len(found) >= min(K, len(ids)) or count >= len(vectors):
                return found[:K]
            count = min(count * 4, len(vectors))

    return search


def measure(search, vectors, ids, questions, permitted, width):
    """Recall by score, searches a second, and the 99th of a hundred times in ms."""
    right, wanted, times = 0, 0, []
    for question in questions:
        start = time.perf_counter()
        found = search(question, ids, permitted, width)
        times.append(time.perf_counter() - start)
        scores = vectors[ids] @ question
        last = np.sort(scores)[-min(K, len(ids))] - 1e-5
        forbidden = [row for row in found if not permitted[row]]
        assert not forbidden, "a row that was not permitted"
        right += int(np.sum(vectors[found] @ question >= last))
        wanted += min(K, len(ids))
        if sum(times) > SECONDS:
            break
    return right / wanted, len(times) / sum(times), np.quantile(times, 0.99) * 1e3


def best(search, widths, *asked):
    top = 0.0
    for width in widths:
        recall, rate, late = measure(search, *asked, width)
        top = max(top, recall)
        if recall >= RECALL:
            return f"{rate:,.0f} ({late:.2f})"
    return f"no ({top:.3f})"


def main(folder):
    about = json.loads((folder / "about.json").read_text())
    vectors = np.fromfile(folder / "vectors.f32", dtype="<f4").reshape(-1, about["dimension"])
    peers = [("numpy, permitted rows", lambda question, ids, permitted, _: exact(vectors, ids, question), [0])]
    for name, build in [("hnswlib, filter", build_hnswlib), ("usearch, asked for more", build_usearch)]:
        start = time.perf_counter()
        peers.append((name, build(vectors), WIDTHS))
        print(f"{name}: built in {time.perf_counter() - start:.0f} s", flush=True)
    print("\n| class | permitted | Wardkeep |", " | ".join(name for name, _, _ in peers), "|")
    print("|---|---|---|" + "---|" * len(peers))
    for of in about["classes"]:
        ids = np.fromfile(folder / f"{of['file']}.ids", dtype="<u4")
        questions = np.fromfile(folder / f"{of['file']}.f32", dtype="<f4").reshape(-1, about["dimension"])
        permitted = np.zeros(len(vectors), dtype=bool)
        permitted[ids] = True
        cells = [best(search, widths, vectors, ids, questions, permitted) for _, search, widths in peers]
        print(f"| {of['name']} | {len(ids)} | {of['ours']} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
