#!/usr/bin/env python3
"""Makes the files of this folder from the original ward-mini files. Standard library only; the same input gives the
same bytes.

    python3 examples/ward/convert.py /path/to/ward-mini

Vectors are copied bit for bit: the float32 rows of the .npy files, base64 of the little-endian bytes.
"""

import base64
import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
DIMENSION = 384

# The one purpose for which somebody in a role asks; policies/README.md says why.
PURPOSE = {
    "nurse": "treatment",
    "physician": "treatment",
    "attending": "treatment",
    "psychotherapist": "treatment",
    "department_head": "operations",
    "privacy_officer": "operations",
    "researcher": "research",
    "temp": "treatment",
}
TREATING = {"nurse", "physician", "attending", "psychotherapist"}

# Programs, the auditor: not in ward-mini, but somebody has to bring the records in and watch.
SERVICES = ["record-feed", "archive-feed", "care-team-feed", "registration-feed", "retention"]


def main(source):
    records = lines(source / "records.jsonl")
    patients = json.loads((source / "patients.json").read_text("utf-8"))
    users = json.loads((source / "users.json").read_text("utf-8"))
    queries = lines(source / "queries.jsonl")
    base, asked = rows(source / "base.f32.npy"), rows(source / "queries.f32.npy")
    assert len(base) == len(records) and len(asked) == len(queries)

    write_lines("records.ndjson", (record(r, base[r["id"]]) for r in records))
    write_list("entities.json", entities(records, patients, users))
    write_list("users.json", (user(u) for u in users))
    write_lines("queries.ndjson", (query(q, asked[q["id"]]) for q in queries))
    allowed = json.loads((source / "allowed.json").read_text("utf-8"))
    write_object("allowed.json", {name: [record_id(i) for i in ids] for name, ids in allowed.items()})
    write_lines("answers.jsonl", (answer(a) for a in lines(source / "answers.jsonl")))
    model = "all-MiniLM-L6-v2"
    write("collection.json", json.dumps({"dimension": DIMENSION, "metric": "cosine", "embedding_model": model}) + "\n")


# ---- one of each ----

def record(r, vector):
    attributes = {
        "doc_type": r["doc_type"],
        "department": ref("Department", r["department"]),
        "facility": r["facility"],
        "sensitivity": r["sensitivity"],
        "author": ref("Clinician", r["author"]),
        "created_at": r["created_at"],
        "source": r["source"],
    }
    if r["patient_id"] is not None:
        attributes["patient"] = ref("Patient", r["patient_id"])
    if r["topic"] is not None:
        attributes["topic"] = r["topic"]
    return {
        "id": record_id(r["id"]),
        "document": f"{r['patient_id'] or 'research'}-{r['doc_type']}",
        "text": r["text"],
        "attributes": attributes,
        "vector_base64": base64.b64encode(vector).decode("ascii"),
    }


def entities(records, patients, users):
    roles = sorted({u["role"] for u in users})
    yield entity("Role", "treating")
    for role in roles:
        yield entity("Role", role, parents=[("Role", "treating")] if role in TREATING else [])
    departments = {d for u in users for d in u["departments"]}
    departments |= {r["department"] for r in records}
    for department in sorted(departments):
        yield entity("Department", department)
    for p in patients:
        consent = {"vip": p["vip"], "part2_consent": p["part2_consent"], "facility": p["facility"]}
        yield entity("Patient", p["id"], consent)
    for u in users:
        if u["assigned_patients"]:
            assigned = [ref("Patient", p) for p in u["assigned_patients"]]
            yield entity("CareTeam", team(u), {"patients": assigned})
    for u in users:
        attrs = {"departments": [ref("Department", d) for d in u["departments"]]}
        if u["assigned_patients"]:
            attrs["care_team"] = ref("CareTeam", team(u))
        if u["facility"]:
            attrs["facility"] = u["facility"]
        yield entity("Clinician", u["id"], attrs, [("Role", u["role"])])
    for service in SERVICES:
        yield entity("ServiceRole", service)
    for service in SERVICES:
        yield entity("Service", service, parents=[("ServiceRole", service)])
    yield entity("Auditor", "auditor")


def user(u):
    return {"caller": ref("Clinician", u["id"]), "role": u["role"], "purpose": PURPOSE[u["role"]]}


def query(q, vector):
    out = {"id": query_id(q["id"]), "text": q["text"], "source": q["source"], "style": q["style"]}
    if q["target"] is not None:
        out["target"] = record_id(q["target"])
    if q["target_patient"] is not None:
        out["target_patient"] = q["target_patient"]
    out["vector_base64"] = base64.b64encode(vector).decode("ascii")
    return out


def answer(a):
    return {
        "query": query_id(a["query"]),
        "user": a["user"],
        "class": a["class"],
        "kind": a["kind"],
        "ids": [record_id(i) for i in a["ids"]],
        "scores": a["scores"],
    }


# ---- names and forms ----

def record_id(i):
    return f"rec-{i:06}"


def query_id(i):
    return f"q-{i:03}"


def team(u):
    return f"team-{u['id']}"


def ref(kind, name):
    return {"type": kind, "id": name}


def entity(kind, name, attrs=None, parents=()):
    return {"uid": ref(kind, name), "attrs": attrs or {}, "parents": [ref(*p) for p in parents]}


# ---- files ----

def rows(path):
    """The rows of a C-ordered little-endian float32 .npy file (version 1), as bytes."""
    raw = path.read_bytes()
    assert raw[:8] == b"\x93NUMPY\x01\x00", "not a .npy file of version 1.0"
    (header,) = struct.unpack("<H", raw[8:10])
    words = raw[10 : 10 + header].decode("latin-1")
    assert "'<f4'" in words and "'fortran_order': False" in words, words
    data, size = raw[10 + header :], 4 * DIMENSION
    assert len(data) % size == 0
    return [data[at : at + size] for at in range(0, len(data), size)]


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write(name, text):
    (HERE / name).write_text(text, "utf-8", newline="\n")


def write_lines(name, values):
    write(name, "".join(compact(v) + "\n" for v in values))


def write_list(name, values):
    write(name, "[\n" + ",\n".join(compact(v) for v in values) + "\n]\n")


def write_object(name, values):
    write(name, "{\n" + ",\n".join(f"{compact(k)}:{compact(v)}" for k, v in values.items()) + "\n}\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
