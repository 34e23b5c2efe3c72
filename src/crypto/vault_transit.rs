//! A key-encryption key in HashiCorp Vault's transit engine, over its HTTP API. Through this machine alone: what is wrapped, and the token,
//! go to a Vault agent or a proxy here, which speaks TLS to the server.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use ureq::{Agent, http::Uri};
use zeroize::{Zeroize, Zeroizing};

use super::{
    Entropy, KeyError,
    provider::{KeyProvider, ProviderKind},
};

/// After so long Vault counts as unreachable. An erasure waits for it, and all other changes for the erasure.
const PATIENCE: Duration = Duration::from_secs(4);
/// Bytes of an answer, most.
const ANSWER_BYTES: u64 = 64 << 10;

/// How Vault is reached.
#[derive(Clone)]
pub struct VaultAccess {
    /// `http://HOST:PORT` on this machine.
    pub address: String,
    /// A token that may encrypt, decrypt and read the key.
    pub token: Zeroizing<String>,
    /// Where the token was read from, if from a file: a Vault agent puts a new one there before the old one ends.
    pub token_file: Option<PathBuf>,
}

/// Which key it is; stands in the ring file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultKey {
    /// Where the transit engine is mounted.
    pub mount: String,
    /// The key's name.
    pub key: String,
}

/// The key, and the way to it.
pub(super) struct VaultTransit {
    access: VaultAccess,
    token: RwLock<Zeroizing<String>>,
    key: VaultKey,
    agent: Agent,
}

impl VaultTransit {
    /// The way to a key that is there and cannot be exported.
    pub(super) fn reach(access: VaultAccess, key: VaultKey) -> Result<Arc<dyn KeyProvider>, KeyError> {
        check_address(&access.address)?;
        if ![&key.mount, &key.key].into_iter().all(|name| is_name(name)) {
            return Err(KeyError::Provider("the mount and name of a Vault key are letters, digits, `-`, `_` and `.`"));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .build();
        let token = RwLock::new(access.token.clone());
        let reached = Self { access, token, key, agent: Agent::new_with_config(config) };
        reached.check_key()?;
        Ok(Arc::new(reached))
    }

    fn check_key(&self) -> Result<(), KeyError> {
        let read = |token: &str| answer(self.agent.get(self.url("keys")).header("x-vault-token", token).call(), NO_KEY);
        let told = self.with_token(read)?;
        let is = |field: &str, value: Json| told.pointer(&format!("/data/{field}")) == Some(&value);
        if !is("exportable", json!(false)) || told.pointer("/data/allow_plaintext_backup") == Some(&json!(true)) {
            return Err(KeyError::Provider(
                "the Vault key can be exported; make one that cannot: `exportable=false allow_plaintext_backup=false`",
            ));
        }
        if !is("type", json!("aes256-gcm96")) || is("derived", json!(true)) {
            return Err(KeyError::Provider("the Vault key must be of type aes256-gcm96 and not derived"));
        }
        Ok(())
    }

    fn ask(&self, verb: &str, body: &Json, bad_request: KeyError) -> Result<Json, KeyError> {
        let body = Zeroizing::new(body.to_string());
        self.with_token(|token| {
            let request = self.agent.post(self.url(verb)).header("x-vault-token", token);
            answer(request.header("content-type", "application/json").send(body.as_bytes()), bad_request)
        })
    }

    /// Once more with the token that lies in the file now, where the one in hand is refused.
    fn with_token(&self, ask: impl Fn(&str) -> Result<Json, KeyError>) -> Result<Json, KeyError> {
        let token = self.token.read().clone();
        let told = ask(&token);
        match (&told, self.access.token_now()) {
            (Err(error), Some(now)) if *error == REFUSED && now != token => {
                *self.token.write() = now.clone();
                ask(&now)
            }
            (Ok(_) | Err(_), _) => told,
        }
    }

    fn url(&self, verb: &str) -> String {
        format!("{}/v1/{}/{verb}/{}", self.access.address.trim_end_matches('/'), self.key.mount, self.key.key)
    }
}

impl VaultAccess {
    fn token_now(&self) -> Option<Zeroizing<String>> {
        let text = Zeroizing::new(fs::read_to_string(self.token_file.as_ref()?).ok()?);
        Some(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

impl KeyProvider for VaultTransit {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Vault
    }

    fn parameters(&self) -> Vec<u8> {
        serde_json::to_vec(&self.key).unwrap_or_default()
    }

    fn wrap(&self, place: &[u8], plain: &[u8], _: &dyn Entropy) -> Result<Vec<u8>, KeyError> {
        let mut body = json!({"plaintext": STANDARD.encode(plain), "associated_data": STANDARD.encode(place)});
        let told = self.ask("encrypt", &body, MISUNDERSTOOD);
        wipe(&mut body, "/plaintext");
        match told?.pointer("/data/ciphertext").and_then(Json::as_str) {
            Some(wrapped) => Ok(wrapped.as_bytes().to_vec()),
            None => Err(MISUNDERSTOOD),
        }
    }

    fn unwrap(&self, place: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let wrapped = std::str::from_utf8(wrapped).map_err(|_| KeyError::Damaged)?;
        let body = json!({"ciphertext": wrapped, "associated_data": STANDARD.encode(place)});
        let mut told = self.ask("decrypt", &body, KeyError::WrongKey)?;
        let plain = told.pointer("/data/plaintext").and_then(Json::as_str).and_then(|text| STANDARD.decode(text).ok());
        wipe(&mut told, "/data/plaintext");
        plain.map(Zeroizing::new).ok_or(MISUNDERSTOOD)
    }
}

const MISUNDERSTOOD: KeyError =
    KeyError::Provider("Vault answers in a way that is not understood: is this its transit engine?");
const REFUSED: KeyError = KeyError::Provider(
    "Vault refuses the token: it has expired, or its policy does not allow encrypt, decrypt and read of the key",
);
const NO_KEY: KeyError =
    KeyError::Provider("Vault has no such key; make it: `vault write -f MOUNT/keys/NAME type=aes256-gcm96`");

fn answer(got: Result<ureq::http::Response<ureq::Body>, ureq::Error>, bad_request: KeyError) -> Result<Json, KeyError> {
    let mut response = got.map_err(|_| {
        KeyError::Provider("Vault cannot be reached: is it running, unsealed, and `keys.vault.address` right?")
    })?;
    match response.status().as_u16() {
        200 => {
            let bytes = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec().map(Zeroizing::new);
            bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or(MISUNDERSTOOD)
        }
        400 => Err(bad_request),
        403 => Err(REFUSED),
        404 => Err(NO_KEY),
        503 => Err(KeyError::Provider("Vault is sealed or standing by: unseal it")),
        _ => Err(MISUNDERSTOOD),
    }
}

/// In the clear, so nowhere but on this machine.
fn check_address(address: &str) -> Result<(), KeyError> {
    let uri = address.parse::<Uri>().ok();
    let local = uri.as_ref().and_then(Uri::host).is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse::<Ipv4Addr>()
                .map(IpAddr::from)
                .or(host.parse::<Ipv6Addr>().map(IpAddr::from))
                .is_ok_and(|ip| ip.is_loopback())
    });
    if local && uri.and_then(|uri| Some(uri.scheme_str()? == "http")) == Some(true) {
        Ok(())
    } else {
        Err(KeyError::Provider(
            "`keys.vault.address` must be http:// on this machine (127.0.0.1, ::1, localhost): run a Vault agent here, which speaks TLS to the server",
        ))
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=128).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.')
}

fn wipe(json: &mut Json, pointer: &str) {
    if let Some(Json::String(text)) = json.pointer_mut(pointer) {
        text.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_on_this_machine_is_taken() {
        for good in ["http://127.0.0.1:8200", "http://localhost:8200/", "http://[::1]:8200"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in [
            "https://127.0.0.1:8200",
            "http://vault.example:8200",
            "http://10.0.0.1",
            "127.0.0.1:8200",
            "",
            "http://127.0.0.1.example",
        ] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_leads_to_no_other_path() {
        assert!(is_name("wardkeep-2026.1"));
        for bad in ["", "a/b", "..", "a b", "a?b", "é"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
