//! Configuration: a TOML file, then `WARDKEEP_*` from the environment. Unknown names are refused.

use std::{
    collections::BTreeMap,
    env, fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::Failure;
use crate::{
    crypto::{KdfCost, Keeper, TokenAccess, TokenKey, VaultAccess, VaultKey},
    engine::{Limits, Memory, Retention, Settings},
    model::limits,
    store::EngineKind,
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    server: Server,
    limits: LimitsTable,
    storage: Storage,
    audit: Audit,
    index: Index,
    keys: KeySettings,
    retention: BTreeMap<String, RetentionTable>,
    backup: Backup,
}

/// How long a collection's records live.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetentionTable {
    days: u32,
    #[serde(default = "ingested_at")]
    attribute: String,
}

fn ingested_at() -> String {
    "ingested_at".to_owned()
}

/// What keeps the key file, and how that is reached.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeySettings {
    provider: Option<ProviderName>,
    pkcs11: TokenTable,
    vault: VaultTable,
}

/// A provider, as the configuration and the command line name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProviderName {
    /// A passphrase, through argon2id
    #[default]
    Passphrase,
    /// A key on a PKCS#11 token
    Pkcs11,
    /// A key in HashiCorp Vault's transit engine
    Vault,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TokenTable {
    module: Option<PathBuf>,
    token: Option<String>,
    key: Option<String>,
    pin_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct VaultTable {
    address: Option<String>,
    mount: Option<String>,
    key: Option<String>,
    token_file: Option<PathBuf>,
}

impl KeySettings {
    /// From the environment, over those of the file that WARDKEEP_CONFIG names.
    pub(super) fn from_environment() -> Result<Self, Failure> {
        Ok(Config::load(env::var_os(FILE).map(PathBuf::from).as_deref())?.keys)
    }

    fn override_by_environment(&mut self) -> Result<(), Failure> {
        if let Ok(name) = env::var("WARDKEEP_KEY_PROVIDER") {
            let parsed = <ProviderName as clap::ValueEnum>::from_str(name.trim(), false);
            self.provider = Some(parsed.map_err(|_| bad("WARDKEEP_KEY_PROVIDER"))?);
        }
        let TokenTable { module, token, key, pin_file } = &mut self.pkcs11;
        replace(module, "WARDKEEP_PKCS11_MODULE")?;
        replace(token, "WARDKEEP_PKCS11_TOKEN")?;
        replace(key, "WARDKEEP_PKCS11_KEY")?;
        replace(pin_file, "WARDKEEP_PKCS11_PIN_FILE")?;
        let VaultTable { address, mount, key, token_file } = &mut self.vault;
        replace(address, "WARDKEEP_VAULT_ADDRESS")?;
        replace(mount, "WARDKEEP_VAULT_MOUNT")?;
        replace(key, "WARDKEEP_VAULT_KEY")?;
        replace(token_file, "WARDKEEP_VAULT_TOKEN_FILE")
    }

    /// The token, if one is configured.
    pub(super) fn token(&self) -> Result<Option<TokenAccess>, Failure> {
        let Some(module) = self.pkcs11.module.clone() else { return Ok(None) };
        let pin = secret(self.pkcs11.pin_file.as_deref(), "wardkeep-pkcs11-pin", "WARDKEEP_PKCS11_PIN")?;
        Ok(Some(TokenAccess { module, pin }))
    }

    /// Vault, if it is configured.
    pub(super) fn vault(&self) -> Result<Option<VaultAccess>, Failure> {
        let Some(address) = self.vault.address.clone() else { return Ok(None) };
        let token = secret(self.vault.token_file.as_deref(), "wardkeep-vault-token", "WARDKEEP_VAULT_TOKEN")?;
        Ok(Some(VaultAccess { address, token, token_file: self.vault.token_file.clone() }))
    }

    /// What is to keep a new key file.
    pub(super) fn keeper(&self, asked: Option<ProviderName>) -> Keeper {
        let or = |text: &Option<String>, default: &str| text.clone().unwrap_or_else(|| default.to_owned());
        match asked.or(self.provider).unwrap_or_default() {
            ProviderName::Passphrase => Keeper::Passphrase(KdfCost::default()),
            ProviderName::Pkcs11 => Keeper::Token(TokenKey {
                token: or(&self.pkcs11.token, "wardkeep"),
                key: or(&self.pkcs11.key, "wardkeep"),
            }),
            ProviderName::Vault => Keeper::Vault(VaultKey {
                mount: or(&self.vault.mount, "transit"),
                key: or(&self.vault.key, "wardkeep"),
            }),
        }
    }
}

/// The variable that names the configuration file for verbs that take none as an argument.
const FILE: &str = "WARDKEEP_CONFIG";

fn replace<T: std::str::FromStr>(setting: &mut Option<T>, name: &'static str) -> Result<(), Failure> {
    if let Some(value) = variable(name)? {
        *setting = Some(value);
    }
    Ok(())
}

/// From a file, a systemd credential, or the environment; without the newline at its end.
fn secret(path: Option<&Path>, credential: &str, name: &'static str) -> Result<Zeroizing<String>, Failure> {
    let credential = env::var_os("CREDENTIALS_DIRECTORY").map(|dir| PathBuf::from(dir).join(credential));
    let path = path.map(Path::to_owned).or(credential.filter(|path| path.exists()));
    let text = match (path, env::var(name)) {
        (Some(path), _) => {
            fs::read_to_string(&path).map_err(|e| Failure::Failed(format!("cannot read {}: {e}", path.display())))?
        }
        (None, Ok(text)) => text,
        (None, Err(_)) => {
            return Err(Failure::Usage(format!(
                "no secret for the key provider: name its file in the configuration, or set {name} (never pass it as an argument)"
            )));
        }
    };
    let text = Zeroizing::new(text);
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Server {
    listen: Option<SocketAddr>,
    trusted_proxies: Vec<IpAddr>,
    answers_every_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsTable {
    max_records: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Storage {
    engine: Option<EngineKind>,
    cache_mib: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Audit {
    anchor: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Index {
    memory: Option<Memory>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Backup {
    directory: Option<PathBuf>,
}

impl Config {
    /// Reads the file, if one is named, and then the environment.
    pub(super) fn load(file: Option<&Path>) -> Result<Self, Failure> {
        let mut config = match file {
            None => Self::default(),
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|e| Failure::Failed(format!("cannot read {}: {e}", path.display())))?;
                toml::from_str(&text).map_err(|e| Failure::Usage(format!("{}: {e}", path.display())))?
            }
        };
        config.server.listen = variable("WARDKEEP_LISTEN")?.or(config.server.listen);
        config.server.answers_every_ms = variable("WARDKEEP_ANSWERS_EVERY_MS")?.or(config.server.answers_every_ms);
        config.limits.max_records = variable("WARDKEEP_MAX_RECORDS")?.or(config.limits.max_records);
        config.storage.cache_mib = variable("WARDKEEP_CACHE_MIB")?.or(config.storage.cache_mib);
        config.audit.anchor = variable("WARDKEEP_ANCHOR")?.or(config.audit.anchor);
        config.storage.engine = variable("WARDKEEP_ENGINE")?.or(config.storage.engine);
        config.index.memory = variable("WARDKEEP_INDEX_MEMORY")?.or(config.index.memory);
        config.keys.override_by_environment()?;
        config.backup.directory = variable("WARDKEEP_BACKUP_DIRECTORY")?.or(config.backup.directory);
        if let Ok(list) = env::var("WARDKEEP_TRUSTED_PROXIES") {
            let parse = |text: &str| text.trim().parse().map_err(|_| bad("WARDKEEP_TRUSTED_PROXIES"));
            config.server.trusted_proxies = list.split(',').map(parse).collect::<Result<_, _>>()?;
        }
        config.within_bounds()
    }

    fn within_bounds(self) -> Result<Self, Failure> {
        if self.limits.max_records == Some(0) {
            return Err(Failure::Usage("`limits.max_records` must be 1 or more".into()));
        }
        if self.server.answers_every_ms > Some(limits::ANSWERS_EVERY_MS) {
            return Err(Failure::Usage(format!(
                "`server.answers_every_ms` (WARDKEEP_ANSWERS_EVERY_MS) must be at most {}; 0 lets answers leave as soon as they are ready",
                limits::ANSWERS_EVERY_MS
            )));
        }
        Ok(self)
    }

    /// What keeps the key file.
    pub(super) fn keys(&self) -> &KeySettings {
        &self.keys
    }

    /// How long records live, by collection.
    pub(super) fn retention(&self) -> Result<Vec<Retention>, Failure> {
        let rule = |(name, table): (&String, &RetentionTable)| {
            let collection =
                name.parse().map_err(|e| Failure::Usage(format!("`retention.{name}`: a collection's name {e}")))?;
            if table.days == 0 {
                return Err(Failure::Usage(format!("`retention.{name}.days` must be 1 or more")));
            }
            Ok(Retention { collection, attribute: table.attribute.clone(), days: table.days })
        };
        self.retention.iter().map(rule).collect()
    }

    /// Where to listen, unless the command line says.
    pub(super) fn listen(&self) -> SocketAddr {
        self.server.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8470)))
    }

    /// Proxies whose forwarded addresses are believed.
    pub(super) fn trusted_proxies(&self) -> Vec<IpAddr> {
        self.server.trusted_proxies.iter().map(IpAddr::to_canonical).collect()
    }

    /// The span after whose multiples answers leave; none: as soon as they are ready.
    pub(super) fn answers_every(&self) -> Option<Duration> {
        self.server.answers_every_ms.filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    /// The file elsewhere that knows how far the audit log was.
    pub(super) fn anchor(&self) -> Option<PathBuf> {
        self.audit.anchor.clone()
    }

    /// Where the server puts backups, if it may make any.
    pub(super) fn backups(&self) -> Option<PathBuf> {
        self.backup.directory.clone()
    }

    /// What the engine is told.
    pub(super) fn settings(&self) -> Settings {
        let default = Settings::default();
        Settings {
            limits: Limits { max_records: self.limits.max_records.unwrap_or(default.limits.max_records) },
            cache_bytes: self.storage.cache_mib.map_or(default.cache_bytes, |mib| mib.saturating_mul(1 << 20)),
            storage_engine: self.storage.engine,
            memory: self.index.memory.unwrap_or(default.memory),
        }
    }
}

fn variable<T: std::str::FromStr>(name: &'static str) -> Result<Option<T>, Failure> {
    match env::var(name) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| bad(name)),
        Err(_) => Ok(None),
    }
}

fn bad(name: &str) -> Failure {
    Failure::Usage(format!("{name} has a value that cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_holds_every_setting_with_its_default() {
        let config: Config = toml::from_str(include_str!("../../deploy/wardkeep.toml")).unwrap();
        let default = Settings::default();
        assert_eq!(config.settings().limits.max_records, default.limits.max_records);
        assert_eq!(config.settings().cache_bytes, default.cache_bytes);
        assert_eq!(config.settings().storage_engine, default.storage_engine);
        assert_eq!(config.settings().memory, default.memory);
        assert_eq!(config.listen(), Config::default().listen());
        assert_eq!(config.anchor(), Config::default().anchor());
        assert_eq!(
            (config.server.answers_every_ms, config.answers_every()),
            (Some(0), Config::default().answers_every())
        );
    }

    #[test]
    fn answers_may_leave_as_seldom_as_the_bound_says_and_no_more() {
        let every = |ms: &str| {
            let config: Config = toml::from_str(&format!("[server]\nanswers_every_ms = {ms}")).ok()?;
            config.within_bounds().ok()
        };
        let most = limits::ANSWERS_EVERY_MS;
        assert_eq!(every("0").unwrap().answers_every(), None);
        assert_eq!(every("5").unwrap().answers_every(), Some(Duration::from_millis(5)));
        assert_eq!(every(&most.to_string()).unwrap().answers_every(), Some(Duration::from_millis(most)));
        for refused in [&(most + 1).to_string(), "-1", "2.5", "\"5\""] {
            assert!(every(refused).is_none(), "{refused}");
        }
    }

    #[test]
    fn a_misspelt_name_is_refused() {
        assert!(toml::from_str::<Config>("[limits]\nmax_record = 3").is_err());
        let config: Config = toml::from_str("[limits]\nmax_records = 3\n[server]\nlisten = \"127.0.0.1:0\"").unwrap();
        assert_eq!(config.settings().limits.max_records, 3);
        assert_eq!(config.listen().port(), 0);
        let lean: Config = toml::from_str("[index]\nmemory = \"lean\"").unwrap();
        assert_eq!(lean.settings().memory, Memory::Lean);
        assert!(toml::from_str::<Config>("[index]\nmemory = \"leaner\"").is_err());
    }

    #[test]
    fn the_storage_engine_is_one_word() {
        for kind in EngineKind::ALL {
            let config: Config = toml::from_str(&format!("[storage]\nengine = \"{kind}\"")).unwrap();
            assert_eq!((config.settings().storage_engine, kind.label().parse()), (Some(kind), Ok(kind)));
        }
        assert!(toml::from_str::<Config>("[storage]\nengine = \"rocksdb\"").is_err());
    }
}
