"""Chroma in its embedded, persistent form, with a `where` made from the caller's grant. pip install chromadb"""

import gc
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import chromadb
from chromadb.config import Settings

from adapter import Adapter, metadata

BATCH = 1_000


def conditions(grant):
    """The rules of the ward as clauses of one `where`."""
    clauses = []
    if grant["by"] in ("patient", "department"):
        clauses.append({grant["by"]: {"$in": grant["values"] or ["nobody"]}})
    if grant["by"] == "research":
        clauses += [{"doc_type": "research_deidentified"}, {"patient": ""}]
    clauses.append({"$or": [{"doc_type": {"$ne": "psychotherapy_note"}}, {"author": grant["caller"]}]})
    if not grant["officer"]:
        other = [{"doc_type": {"$ne": "substance_use"}}]
        consented = [{"patient": {"$in": grant["consenting"]}}] if grant["by"] == "patient" and grant["consenting"] else []
        clauses.append({"$or": other + consented} if consented else other[0])
    if not grant["senior"]:
        clauses.append({"sensitivity": {"$lt": 3}})
    return clauses


class Chroma(Adapter):
    name = "chromadb, embedded"
    version = version("chromadb")

    def __init__(self):
        super().__init__()
        self.path = Path(tempfile.mkdtemp(prefix="leaktest-chroma-"))
        self.open()

    def open(self):
        self.client = chromadb.PersistentClient(str(self.path), Settings(anonymized_telemetry=False, allow_reset=True))

    def reset(self, collection, dimension):
        self.name_of_collection = collection
        if collection in [c.name for c in self.client.list_collections()]:
            self.client.delete_collection(collection)
        self.held = self.client.create_collection(collection, metadata={"hnsw:space": "cosine"}, embedding_function=None)

    def put(self, records):
        for at in range(0, len(records), BATCH):
            batch = records[at : at + BATCH]
            self.held.upsert(
                ids=[r["id"] for r in batch],
                embeddings=[r["vector"] for r in batch],
                documents=[r["text"] for r in batch],
                metadatas=[metadata(r) for r in batch],
            )

    def erase(self, ids):
        self.held.delete(ids=ids)

    def where(self, grant, patient):
        clauses = conditions(grant) + ([{"patient": patient}] if patient is not None else [])
        return {"$and": clauses} if len(clauses) > 1 else clauses[0]

    def nearest(self, grant, vector, count, patient):
        found = self.held.query(
            query_embeddings=[vector],
            n_results=min(count, max(1, self.held.count())),
            where=self.where(grant, patient),
            include=["documents", "metadatas", "distances"],
        )
        rows = zip(found["ids"][0], found["documents"][0], found["metadatas"][0], found["distances"][0])
        return [{"id": i, "score": 1 - d, "text": t, "attributes": dict(m)} for i, t, m, d in rows]

    def allowed(self, grant, ids=None, patient=None):
        # it refuses an id that is named twice
        ids = sorted(set(ids)) if ids is not None else None
        found = self.held.get(ids=ids, where=self.where(grant, patient), include=["documents", "metadatas"])
        rows = zip(found["ids"], found["documents"], found["metadatas"])
        return [{"id": i, "text": t, "attributes": dict(m)} for i, t, m in rows]

    def restart(self):
        del self.held, self.client
        gc.collect()
        chromadb.api.client.SharedSystemClient.clear_system_cache()
        self.open()
        self.held = self.client.get_collection(self.name_of_collection, embedding_function=None)

    def files(self):
        return [str(p) for p in self.path.rglob("*") if p.is_file()]


if __name__ == "__main__":
    store = Chroma()
    try:
        store.serve()
    finally:
        shutil.rmtree(store.path, ignore_errors=True)
