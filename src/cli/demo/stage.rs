//! The stage: a throw-away store behind a real server, filled with the sample ward.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use serde_json::{Value as Json, json};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::super::{Failure, audit::expected, client::Client, progress};
use crate::{
    audit,
    crypto::{KdfCost, Passphrase},
    engine::{Environment, Settings, Wardkeep, origin_of},
    http::{App, serve},
    store::Store,
};

const SCHEMA: &str = include_str!("../../../policies/clinical/wardkeep.cedarschema");
const POLICIES: &[&str] = &[
    include_str!("../../../policies/clinical/administration.cedar"),
    include_str!("../../../policies/clinical/care-team.cedar"),
    include_str!("../../../policies/clinical/department-head.cedar"),
    include_str!("../../../policies/clinical/feeds.cedar"),
    include_str!("../../../policies/clinical/part2.cedar"),
    include_str!("../../../policies/clinical/privacy-officer.cedar"),
    include_str!("../../../policies/clinical/psychotherapy.cedar"),
    include_str!("../../../policies/clinical/researcher.cedar"),
    include_str!("../../../policies/clinical/search.cedar"),
    include_str!("../../../policies/clinical/vip.cedar"),
];
const ENTITIES: &str = include_str!("../../../examples/ward/entities.json");
const RECORDS: &str = include_str!("../../../examples/ward/records.ndjson");
const QUERIES: &str = include_str!("../../../examples/ward/queries.ndjson");

/// Somebody who asks.
pub(super) struct Person {
    pub(super) id: &'static str,
    pub(super) role: &'static str,
    pub(super) purpose: &'static str,
}

/// Who asks: roles as the sample ward has them, identities synthetic.
pub(super) const CAST: [Person; 5] = [
    Person { id: "m-nurse-000", role: "nurse", purpose: "treatment" },
    Person { id: "m-physician-006", role: "physician", purpose: "treatment" },
    Person { id: "m-researcher-000", role: "researcher", purpose: "research" },
    Person { id: "m-privacy_officer-000", role: "privacy officer", purpose: "operations" },
    Person { id: "m-temp-000", role: "temp", purpose: "treatment" },
];

/// The questions of the sample ward.
pub(super) struct Ward {
    queries: Vec<Json>,
}

impl Ward {
    pub(super) fn read() -> Result<Self, Failure> {
        Ok(Self { queries: QUERIES.lines().map(serde_json::from_str).collect::<Result<_, _>>()? })
    }

    pub(super) fn question(&self, id: &str) -> Option<&Json> {
        self.queries.iter().find(|q| q.get("id").and_then(Json::as_str) == Some(id))
    }
}

/// A store and the server on it.
pub(super) struct Stage {
    dir: PathBuf,
    keep: bool,
    url: String,
    root_key: Zeroizing<String>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<Result<(), String>>>,
}

impl Stage {
    pub(super) fn raise(keep: bool) -> Result<Self, Failure> {
        let mut name = [0; 8];
        crate::crypto::Entropy::fill(&crate::crypto::OsEntropy, &mut name)?;
        let dir = std::env::temp_dir().join(format!("wardkeep-demo-{}", hex::encode(name)));
        let founding = Wardkeep::create(&dir, &passphrase()?, KdfCost::default(), Environment::default())?;
        let engine = Wardkeep::open(&dir, &passphrase()?, Settings::default(), Environment::default(), &|_| {})?;
        let app = App::new(Arc::new(engine), Vec::new());
        let (told, address) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| e.to_string())?;
            let serving = async {
                let running = serve(app, ([127, 0, 0, 1], 0).into()).await?;
                let _ = told.send(running.address()?);
                running.until(async move { drop(stopped.await) }).await
            };
            runtime.block_on(serving).map_err(|e: std::io::Error| e.to_string())
        });
        let address = address.recv()?;
        let url = format!("http://{address}");
        Ok(Self { dir, keep, url, root_key: founding.api_key, stop: Some(stop), server: Some(server) })
    }

    pub(super) fn root_key(&self) -> &str {
        &self.root_key
    }

    pub(super) fn client(&self, key: &str) -> Client {
        Client::new(&self.url, key)
    }

    /// Policies, people, a collection and its records; answers how many records were taken.
    pub(super) fn fill(&self, root: &Client) -> Result<u64, Failure> {
        let bar = progress::counter("filling the ward", Some(RECORDS.len() as u64));
        root.put("/v1/policies", &json!({"schema": SCHEMA, "policies": POLICIES.concat(), "note": "sample ward"}))?;
        root.put("/v1/entities", &serde_json::from_str(ENTITIES)?)?;
        root.put(
            "/v1/collections/ward",
            &json!({"dimension": 384, "metric": "cosine", "embedding_model": "all-MiniLM-L6-v2"}),
        )?;
        let answer = root.put_lines("/v1/collections/ward/records", &mut bar.wrap_read(RECORDS.as_bytes()))?;
        bar.finish_and_clear();
        Ok(answer.get("accepted").and_then(Json::as_u64).unwrap_or(0))
    }

    /// A key that speaks for `who`.
    pub(super) fn key_for(&self, root: &Client, who: &Person) -> Result<String, Failure> {
        let made = root.post("/v1/callers", &json!({"type": "Clinician", "id": who.id, "purposes": [who.purpose]}))?;
        Ok(made.get("api_key").and_then(Json::as_str).unwrap_or_default().to_owned())
    }

    /// Stops the server and verifies its audit trail: as it is, and a copy with one byte flipped.
    pub(super) fn lower(mut self) -> Result<(String, String), Failure> {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(server) = self.server.take() {
            server.join().map_err(|_| Failure::Failed("the server ended badly".into()))?.map_err(Failure::Failed)?;
        }
        let intact = verify(&self.dir, None)?;
        let copy = self.dir.join("audit-copy");
        flipped_copy(&self.dir.join("audit"), &copy)?;
        let broken = verify(&self.dir, Some(&copy))?;
        Ok((intact, broken))
    }
}

fn passphrase() -> Result<Passphrase, Failure> {
    Ok(Passphrase::from_bytes(b"a throw-away passphrase".to_vec())?)
}

fn verify(dir: &Path, audit_dir: Option<&Path>) -> Result<String, Failure> {
    let evidence = Store::evidence(dir, &passphrase()?)?;
    let ring = evidence.ring();
    let own = evidence.audit_dir();
    let sealer = ring.sealer("audit");
    let public_key = ring.signer().public_key();
    let audited = audit_dir.unwrap_or(&own);
    let report = audit::verify(
        audited,
        &origin_of(ring),
        Some(sealer.as_ref()),
        public_key,
        Some(expected(evidence.manifest()?)),
    );
    Ok(super::super::audit::in_words(&report))
}

/// Copies the log and flips one byte in the middle of it.
fn flipped_copy(log: &Path, copy: &Path) -> Result<(), Failure> {
    fs::create_dir_all(copy)?;
    for entry in fs::read_dir(log)? {
        let entry = entry?;
        let mut bytes = fs::read(entry.path())?;
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
        fs::write(copy.join(entry.file_name()), bytes)?;
    }
    Ok(())
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("the store is kept in {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
