//! The nouns: valid by construction, without I/O. Knows neither Cedar, keys, disks nor HTTP.

pub mod bundle;
pub mod caller;
pub mod collection;
pub mod embedding;
pub mod entity;
pub mod hold;
pub mod ids;
pub mod limits;
pub mod phi;
pub mod record;
pub mod seals;
pub mod value;

pub use bundle::{BundleSource, TemplateLink};
pub use caller::ApiKey;
pub use collection::{Collection, Isolation};
pub use embedding::{Embedding, EmbeddingError, Metric};
pub use entity::Entity;
pub use hold::Hold;
pub use ids::{Action, CollectionName, DocumentId, EntityUid, IdError, KeyId, RecordId, RetrievalId, Slot};
pub use phi::Phi;
pub use record::Record;
pub use seals::{Pseudonyms, SealError, Sealer, Signer};
pub use value::Value;
