//! Cedar decides here, and only here: bundle, plan, decide. Knows neither disks nor vectors.
