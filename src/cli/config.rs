//! Configuration: a TOML file, then `WARDKEEP_*` from the environment. Unknown names are refused.

use std::{
    env, fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use serde::Deserialize;

use super::Failure;
use crate::engine::{Limits, Memory, Settings};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    server: Server,
    limits: LimitsTable,
    storage: Storage,
    index: Index,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Server {
    listen: Option<SocketAddr>,
    trusted_proxies: Vec<IpAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsTable {
    max_records: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Storage {
    cache_mib: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Index {
    memory: Option<Memory>,
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
        config.limits.max_records = variable("WARDKEEP_MAX_RECORDS")?.or(config.limits.max_records);
        config.storage.cache_mib = variable("WARDKEEP_CACHE_MIB")?.or(config.storage.cache_mib);
        config.index.memory = variable("WARDKEEP_INDEX_MEMORY")?.or(config.index.memory);
        if let Ok(list) = env::var("WARDKEEP_TRUSTED_PROXIES") {
            let parse = |text: &str| text.trim().parse().map_err(|_| bad("WARDKEEP_TRUSTED_PROXIES"));
            config.server.trusted_proxies = list.split(',').map(parse).collect::<Result<_, _>>()?;
        }
        if config.limits.max_records == Some(0) {
            return Err(Failure::Usage("`limits.max_records` must be 1 or more".into()));
        }
        Ok(config)
    }

    /// Where to listen, unless the command line says.
    pub(super) fn listen(&self) -> SocketAddr {
        self.server.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8470)))
    }

    /// Proxies whose forwarded addresses are believed.
    pub(super) fn trusted_proxies(&self) -> Vec<IpAddr> {
        self.server.trusted_proxies.iter().map(IpAddr::to_canonical).collect()
    }

    /// What the engine is told.
    pub(super) fn settings(&self) -> Settings {
        let default = Settings::default();
        Settings {
            limits: Limits { max_records: self.limits.max_records.unwrap_or(default.limits.max_records) },
            cache_bytes: self.storage.cache_mib.map_or(default.cache_bytes, |mib| mib.saturating_mul(1 << 20)),
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
        assert_eq!(config.settings().memory, default.memory);
        assert_eq!(config.listen(), Config::default().listen());
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
}
