"""What an adapter has to do: one JSON line in, one JSON line out. README.md has the protocol.

A store that is to be tested derives from Adapter and says how it keeps and finds records. The access rules of the sample
ward (policies/clinical) are here as a sensible engineer writes them for a store with metadata filters: from the caller's
entity, on every request, never from what the client sends."""

import json
import sys


class Unable(Exception):
    """The store has no such thing; what needs it is skipped."""


class Directory:
    """People and things, as the application keeps them."""

    def __init__(self):
        self.entities = {}

    def put(self, entities):
        for entity in entities:
            uid = entity["uid"]
            self.entities[uid["type"], uid["id"]] = entity

    def forget(self, ty, id):
        self.entities.pop((ty, id), None)

    def get(self, ty, id):
        return self.entities.get((ty, id))

    def roles(self, caller):
        entity = self.get(caller["type"], caller["id"]) or {"parents": []}
        roles = {p["id"] for p in entity["parents"] if p["type"] == "Role"}
        for role in list(roles):
            parent = self.get("Role", role)
            roles |= {p["id"] for p in (parent or {"parents": []})["parents"]}
        return roles

    def grant(self, caller, purpose):
        """Who is asking, and what a filter over metadata needs to know of them; None sees nothing."""
        entity = self.get(caller["type"], caller["id"])
        if entity is None:
            return None
        roles, attrs = self.roles(caller), entity["attrs"]
        team = self.get("CareTeam", attrs["care_team"]["id"]) if "care_team" in attrs else None
        patients = [p["id"] for p in team["attrs"]["patients"]] if team else []
        consenting = [p for p in patients if (self.get("Patient", p) or {"attrs": {}})["attrs"].get("part2_consent")]
        senior = bool(roles & {"attending", "department_head", "privacy_officer"})
        grant = {"caller": caller["id"], "senior": senior, "officer": "privacy_officer" in roles, "consenting": consenting}
        if purpose == "treatment" and "treating" in roles:
            caps = {"nurse": 20, "physician": 50, "attending": 100, "psychotherapist": 20}
            cap = sum(n for role, n in caps.items() if role in roles)
            return grant | {"by": "patient", "values": patients, "cap": cap}
        if purpose == "operations" and "privacy_officer" in roles:
            return grant | {"by": "all", "values": [], "cap": 50, "patients": 20}
        if purpose == "operations" and "department_head" in roles:
            departments = [d["id"] for d in attrs.get("departments", [])]
            return grant | {"by": "department", "values": departments, "cap": 50, "patients": 20}
        if purpose == "research" and "researcher" in roles:
            return grant | {"by": "research", "values": [], "cap": 10_000}
        return None


def metadata(record):
    """The record's attributes as flat values, which is what such stores filter by."""
    attrs = record["attributes"]
    flat = {
        "record_id": record["id"],
        "document": record["document"],
        "doc_type": attrs["doc_type"],
        "department": attrs["department"]["id"],
        "sensitivity": attrs["sensitivity"],
        "author": attrs["author"]["id"],
        "source": attrs.get("source", ""),
        "patient": attrs["patient"]["id"] if "patient" in attrs else "",
    }
    return flat


def fits(body):
    """Whether every field is of its type, as an application with typed requests sees to before it does anything."""
    kinds = {"limit": int, "patient": str, "after": str, "id": str, "ids": list, "include": list, "vector": list}
    elements = {"ids": str, "include": str, "vector": (int, float)}

    def is_of(value, kind):
        return isinstance(value, kind) and not isinstance(value, bool)

    return all(
        is_of(value, kinds.get(name, object)) and all(is_of(e, elements[name]) for e in (value if name in elements else []))
        for name, value in body.items()
    )


def capped(hits, grant, limit):
    """The minimum necessary, after the search: at most so many records, of so many patients."""
    kept, patients = [], set()
    for hit in hits:
        patient = hit["attributes"]["patient"]
        if patient and patient not in patients and len(patients) >= grant.get("patients", 10**9):
            continue
        patients |= {patient} - {""}
        kept.append(hit)
        if len(kept) >= min(limit, grant["cap"]):
            break
    return kept


class Adapter:
    name = version = "?"

    def __init__(self):
        self.directory = Directory()

    # what a store has to say

    def reset(self, collection, dimension):
        raise NotImplementedError

    def put(self, records):
        raise NotImplementedError

    def erase(self, ids):
        raise NotImplementedError

    def nearest(self, grant, vector, count, patient, with_vectors):
        """[{id, score, text, attributes, vector?}], nearest first, of what the grant allows."""
        raise NotImplementedError

    def allowed(self, grant, ids=None, patient=None):
        """The same without scores, in any order."""
        raise NotImplementedError

    def files(self):
        raise Unable("keeps no files")

    def restart(self):
        raise Unable("is not restarted")

    # what every store here shares

    def search(self, caller, purpose, body):
        grant = self.directory.grant(caller, purpose)
        if "filter" in body:
            raise Unable("the application in front takes no filters from clients")
        known = {"vector", "limit", "patient", "purpose", "include"}
        limit = body.get("limit", 10)
        if set(body) - known or not 1 <= limit <= 10_000 or len(body["vector"]) != self.dimension or not any(body["vector"]):
            return 422, {"detail": "the question does not fit"}
        include = set(body.get("include", ["text", "attributes"]))
        if include - {"text", "attributes", "vector", "provenance"}:
            return 422, {"detail": "no such part"}
        if grant is None:
            return 200, {"results": []}
        # no vectors for anybody: the rules grant ReadVector to nobody
        wide = min(10_000, max(limit, grant["cap"]) if grant.get("patients") is None else 10_000)
        hits = self.nearest(grant, body["vector"], wide, body.get("patient"))
        return 200, {"results": capped(hits, grant, limit)}

    def read(self, caller, purpose, body):
        grant = self.directory.grant(caller, purpose)
        found = self.allowed(grant, ids=[body["id"]]) if grant else []
        return (200, found[0]) if found else (404, {"detail": "there is no such thing, or it is not yours"})

    def list(self, caller, purpose, body):
        if "filter" in body:
            raise Unable("the application in front takes no filters from clients")
        grant = self.directory.grant(caller, purpose) if body.get("ids") != [] else None
        found = self.allowed(grant, ids=body.get("ids"), patient=body.get("patient")) if grant else []
        found = sorted((r for r in found if r["id"] > body.get("after", "")), key=lambda r: r["id"])
        return 200, {"records": capped(found, grant, body.get("limit", 100)) if grant else [], "count": len(found)}

    def caller_put(self, caller, purpose, body):
        return 403, {"detail": "not yours to do"}

    caller_erase = caller_put

    def handle(self, line):
        op = line["op"]
        if op == "hello":
            return {"ok": {"name": self.name, "version": self.version}}
        if op in ("search", "read", "list", "caller_put", "caller_erase"):
            if "authorization" in line.get("headers", {}):
                raise Unable("the application in front knows who is asking before it is asked, and takes no tokens")
            if not fits(line["body"]):
                return {"status": 422, "body": {"detail": "the request does not fit"}}
            status, body = getattr(self, op)(line["caller"], line["purpose"], line["body"])
            return {"status": status, "body": body}
        if op == "reset":
            self.directory, self.dimension = Directory(), line["dimension"]
            self.reset(line["collection"], line["dimension"])
        elif op == "entities":
            self.directory.put(line["entities"])
        elif op == "forget":
            self.directory.forget(line["type"], line["id"])
        elif op == "put":
            self.put(line["records"])
        elif op == "erase":
            self.erase(line["ids"])
        elif op == "restart":
            self.restart()
        elif op == "traces":
            return {"ok": self.files()}
        else:
            raise Unable(f"does not know {op}")
        return {"ok": True}

    def serve(self):
        for text in sys.stdin:
            try:
                answer = self.handle(json.loads(text))
            except Unable as why:
                answer = {"unable": str(why)}
            except Exception as error:  # the kit tells it as a broken target
                answer = {"error": f"{type(error).__name__}: {error}"}
            # sorted: in which order a store hands out fields tells nothing, and must not look as if it did
            print(json.dumps(answer, sort_keys=True), flush=True)
