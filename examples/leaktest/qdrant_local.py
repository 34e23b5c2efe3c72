"""qdrant-client in its embedded form, with a payload filter made from the caller's grant. pip install qdrant-client"""

import shutil
import tempfile
import uuid
from importlib.metadata import version
from pathlib import Path

from qdrant_client import QdrantClient
from qdrant_client.models import (
    Distance,
    FieldCondition,
    Filter,
    MatchAny,
    MatchValue,
    PointIdsList,
    PointStruct,
    Range,
    VectorParams,
)

from adapter import Adapter, metadata


def equal(key, value):
    return FieldCondition(key=key, match=MatchValue(value=value))


def conditions(grant):
    """The rules of the ward as one payload filter."""
    must, must_not = [], []
    if grant["by"] in ("patient", "department"):
        must.append(FieldCondition(key=grant["by"], match=MatchAny(any=grant["values"])))
    if grant["by"] == "research":
        must += [equal("doc_type", "research_deidentified"), equal("patient", "")]
    notes = [equal("doc_type", "psychotherapy_note")]
    must_not.append(Filter(must=notes, must_not=[equal("author", grant["caller"])]))
    if not grant["officer"]:
        consented = [FieldCondition(key="patient", match=MatchAny(any=grant["consenting"]))] if grant["by"] == "patient" else []
        must_not.append(Filter(must=[equal("doc_type", "substance_use")], must_not=consented))
    if not grant["senior"]:
        must_not.append(FieldCondition(key="sensitivity", range=Range(gte=3)))
    return must, must_not


def shown(point):
    payload = dict(point.payload)
    text = payload.pop("text")
    hit = {"id": payload["record_id"], "text": text, "attributes": payload}
    if hasattr(point, "score"):
        hit["score"] = point.score
    return hit


class Qdrant(Adapter):
    name = "qdrant-client, embedded"
    version = version("qdrant-client")

    def __init__(self):
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="leaktest-qdrant-"))
        self.client = QdrantClient(path=str(self.path))

    def reset(self, collection, dimension):
        self.collection = collection
        if self.client.collection_exists(collection):
            self.client.delete_collection(collection)
        self.client.create_collection(collection, VectorParams(size=dimension, distance=Distance.COSINE))

    def point_id(self, record_id):
        return str(uuid.uuid5(uuid.NAMESPACE_OID, record_id))

    def put(self, records):
        points = [
            PointStruct(id=self.point_id(r["id"]), vector=r["vector"], payload=metadata(r) | {"text": r["text"]})
            for r in records
        ]
        self.client.upsert(self.collection, points)

    def erase(self, ids):
        points = PointIdsList(points=[self.point_id(i) for i in ids])
        self.client.delete(self.collection, points)

    def filter(self, grant, ids=None, patient=None):
        must, must_not = conditions(grant)
        if ids is not None:
            must.append(FieldCondition(key="record_id", match=MatchAny(any=ids)))
        if patient is not None:
            must.append(equal("patient", patient))
        return Filter(must=must, must_not=must_not)

    def nearest(self, grant, vector, count, patient):
        found = self.client.query_points(
            self.collection, query=vector, limit=count, query_filter=self.filter(grant, patient=patient)
        )
        return [shown(p) for p in found.points]

    def allowed(self, grant, ids=None, patient=None):
        found, _ = self.client.scroll(self.collection, scroll_filter=self.filter(grant, ids, patient), limit=100_000)
        return [shown(p) for p in found]

    def restart(self):
        self.client.close()
        self.client = QdrantClient(path=str(self.path))

    def files(self):
        return [str(p) for p in self.path.rglob("*") if p.is_file()]


if __name__ == "__main__":
    store = Qdrant()
    try:
        store.serve()
    finally:
        store.client.close()
        shutil.rmtree(store.path, ignore_errors=True)
