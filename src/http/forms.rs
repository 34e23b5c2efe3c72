//! The JSON that clients send, as types: unknown fields are refused, so that a misspelt one is never silently ignored.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    body::{self, Distinct, Named},
    problem::Problem,
};
use crate::{
    engine::{Draft, Fault, Include, Line, Own},
    model::{EntityUid, Isolation, Metric, Phi, TemplateLink, limits},
};

/// A vector in one of its two forms.
fn vector(plain: Option<Vec<f32>>, base64: Option<&str>) -> Result<Vec<f32>, Fault> {
    match (plain, base64) {
        (Some(vector), None) => Ok(vector),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(text).map_err(|_| Fault::new("vector", "`vector_base64` is not base64"))?;
            let (chunks, rest) = bytes.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(Fault::new(
                    "vector",
                    "`vector_base64` must hold little-endian f32 numbers, four bytes each",
                ));
            }
            Ok(chunks.iter().map(|c| f32::from_le_bytes(*c)).collect())
        }
        _ => Err(Fault::new("vector", "send either `vector` or `vector_base64`")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordForm {
    id: String,
    document: String,
    vector: Option<Vec<f32>>,
    vector_base64: Option<String>,
    text: String,
    #[serde(default)]
    attributes: Distinct,
    #[serde(default)]
    tags: Distinct,
    #[serde(default)]
    parents: Vec<Named<EntityUid>>,
}

/// A line of NDJSON that was too long to be read.
pub(super) fn endless(number: usize) -> Line {
    let detail = format!("the line is longer than {} bytes", limits::LINE_BYTES);
    Line { number, draft: Err(Fault::new("line_too_long", detail).at(number, None)) }
}

/// One line of NDJSON, or one element of `records`.
pub(super) fn line(number: usize, bytes: &[u8]) -> Line {
    let draft = body::checked::<Named<RecordForm>>(bytes).map_err(|(_, fault)| fault.at(number, None)).and_then(
        |Named(form)| {
            let vector =
                vector(form.vector, form.vector_base64.as_deref()).map_err(|f| f.at(number, Some(&form.id)))?;
            Ok(Draft {
                id: form.id,
                document: form.document,
                vector,
                text: Phi::new(form.text),
                attributes: form.attributes.0,
                tags: form.tags.0,
                parents: form.parents.into_iter().map(|parent| parent.0).collect(),
            })
        },
    );
    Line { number, draft }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordsForm {
    records: Vec<Box<RawValue>>,
}

/// A JSON body of records.
pub(super) fn lines(bytes: &[u8]) -> Result<Vec<Line>, Problem> {
    let form: RecordsForm = body::parse(bytes)?;
    if form.records.len() > limits::BATCH_RECORDS {
        let detail = format!("more than {} records in one body; send application/x-ndjson", limits::BATCH_RECORDS);
        return Err(Problem::invalid("too_many_records", detail));
    }
    Ok(form.records.iter().enumerate().map(|(at, raw)| line(at + 1, raw.get().as_bytes())).collect())
}

/// A search as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchForm {
    vector: Option<Vec<f32>>,
    vector_base64: Option<String>,
    limit: Option<usize>,
    pub(super) purpose: String,
    pub(super) patient: Option<String>,
    filter: Option<Filter>,
    include: Option<Vec<IncludeForm>>,
    model: Option<String>,
}

/// Records answered where a search does not say how many.
pub(super) const DEFAULT_LIMIT: usize = 10;

impl SearchForm {
    pub(super) fn question(self) -> Result<crate::engine::Question, Problem> {
        Ok(crate::engine::Question {
            limit: bounded("limit", self.limit.unwrap_or(DEFAULT_LIMIT), limits::SEARCH_LIMIT_MAX)?,
            vector: vector(self.vector, self.vector_base64.as_deref())
                .map_err(|fault| Problem::invalid(fault.code, fault.detail))?,
            filter: self.filter.map(|filter| filter.0),
            include: include(self.include),
            model: self.model.map(|m| label("model", m)).transpose()?,
        })
    }
}

/// A list as it is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListForm {
    filter: Option<Filter>,
    pub(super) patient: Option<String>,
    pub(super) purpose: String,
    after: Option<String>,
    limit: Option<usize>,
    ids: Option<Vec<String>>,
    include: Option<Vec<IncludeForm>>,
}

/// Records answered where a list does not say how many.
pub(super) const LIST_LIMIT: usize = 100;

impl ListForm {
    pub(super) fn listing(self) -> Result<crate::engine::Listing, Problem> {
        let id = |text: String| text.parse().map_err(|e| Problem::invalid("id", format!("an id {e}")));
        let of = match self.ids {
            Some(_) if self.after.is_some() || self.limit.is_some() => {
                return Err(Problem::invalid("ids", "`ids` goes with neither `after` nor `limit`"));
            }
            Some(ids) => {
                bounded("ids", ids.len(), limits::IDS_PER_REQUEST)?;
                crate::engine::Which::Ids(ids.into_iter().map(id).collect::<Result<_, _>>()?)
            }
            None => crate::engine::Which::Page {
                after: self.after.map(id).transpose()?,
                limit: bounded("limit", self.limit.unwrap_or(LIST_LIMIT), limits::LIST_PAGE)?,
            },
        };
        let filter = self.filter.map(|filter| filter.0);
        Ok(crate::engine::Listing { of, filter, include: include(self.include) })
    }
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum IncludeForm {
    Text,
    Attributes,
    Vector,
    Provenance,
}

fn include(asked: Option<Vec<IncludeForm>>) -> Include {
    let Some(asked) = asked else { return Include::default() };
    let mut include = Include { text: false, attributes: false, vector: false, provenance: false };
    for one in asked {
        match one {
            IncludeForm::Text => include.text = true,
            IncludeForm::Attributes => include.attributes = true,
            IncludeForm::Vector => include.vector = true,
            IncludeForm::Provenance => include.provenance = true,
        }
    }
    include
}

/// A Cedar expression as it is sent: it may hold names, and is never printed.
struct Filter(Phi<String>);

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Phi::new).map(Self)
    }
}

/// A count from 1 to `most`.
pub(super) fn bounded(name: &'static str, count: usize, most: usize) -> Result<usize, Problem> {
    if (1..=most).contains(&count) {
        Ok(count)
    } else {
        Err(Problem::invalid(name, format!("`{name}` must be 1 to {most}")))
    }
}

/// A purpose, model or patient's id: short and without control characters.
pub(super) fn label(name: &'static str, text: String) -> Result<String, Problem> {
    match crate::model::ids::check_id(&text) {
        Ok(()) => Ok(text),
        Err(error) => Err(Problem::invalid(name, format!("`{name}` {error}"))),
    }
}

/// What to erase: one of the three.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EraseForm {
    ids: Option<Vec<String>>,
    document: Option<String>,
    patient: Option<String>,
    /// The patient's own entity too.
    #[serde(default)]
    entity: bool,
    /// A signed certificate.
    #[serde(default)]
    pub(super) certificate: bool,
}

impl EraseForm {
    pub(super) fn erasure(self) -> Result<crate::engine::Erasure, Problem> {
        if self.entity && self.patient.is_none() {
            return Err(Problem::invalid("erase", "`entity` goes with `patient`: it is the patient's own entity"));
        }
        let own = if self.entity { Own::Removed } else { Own::Kept };
        match (self.ids, self.document, self.patient) {
            (Some(ids), None, None) => {
                bounded("ids", ids.len(), limits::IDS_PER_REQUEST)?;
                let id = |text: String| text.parse().map_err(|e| Problem::invalid("id", format!("an id {e}")));
                Ok(crate::engine::Erasure::Records(ids.into_iter().map(id).collect::<Result<_, _>>()?))
            }
            (None, Some(document), None) => {
                let document = document.parse().map_err(|e| Problem::invalid("document", format!("`document` {e}")))?;
                Ok(crate::engine::Erasure::Document(document))
            }
            (None, None, Some(patient)) => Ok(crate::engine::Erasure::Patient(label("patient", patient)?, own)),
            _ => Err(Problem::invalid("erase", "send exactly one of `ids`, `document` and `patient`")),
        }
    }
}

/// A collection's settings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CollectionForm {
    pub(super) dimension: usize,
    pub(super) metric: Metric,
    pub(super) subject_attribute: Option<String>,
    #[serde(default)]
    pub(super) isolation: Isolation,
    pub(super) embedding_model: Option<String>,
}

/// A bundle.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BundleForm {
    schema: String,
    policies: String,
    #[serde(default)]
    templates: Option<String>,
    #[serde(default)]
    links: Vec<Named<LinkForm>>,
    #[serde(default)]
    note: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkForm {
    template: String,
    id: Option<String>,
    values: Distinct,
}

impl BundleForm {
    pub(super) fn source(self) -> Result<crate::model::BundleSource, Problem> {
        let note = bundle_note(self.note)?;
        let links = self.links.into_iter().enumerate().map(|(at, Named(link))| {
            let values = serde_json::from_value::<BTreeMap<String, Named<EntityUid>>>(link.values.0).map_err(|_| {
                Problem::invalid(
                    "bad_link",
                    format!("`values` of link {} must be {{\"principal\": {{type, id}}, …}}", at + 1),
                )
            })?;
            let values = values.into_iter().map(|(slot, uid)| (slot, uid.0)).collect();
            let id = link.id.unwrap_or_else(|| format!("{}-link-{}", link.template, at + 1));
            Ok(TemplateLink { id, template: link.template, values })
        });
        Ok(crate::model::BundleSource {
            schema: self.schema,
            policies: self.policies,
            templates: self.templates.unwrap_or_default(),
            links: links.collect::<Result<_, Problem>>()?,
            note,
            tolerates_misfits: false,
        })
    }
}

/// An earlier bundle that is to be in force again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackForm {
    pub(super) version: u64,
    #[serde(default)]
    note: String,
}

impl RollbackForm {
    pub(super) fn note(self) -> Result<String, Problem> {
        bundle_note(self.note)
    }
}

fn bundle_note(note: String) -> Result<String, Problem> {
    if note.len() > limits::TEXT_BYTES { Err(Problem::invalid("note", "`note` is too long")) } else { Ok(note) }
}

/// A key to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallerForm {
    #[serde(rename = "type")]
    pub(super) ty: String,
    pub(super) id: String,
    pub(super) expires_in: Option<u64>,
    pub(super) purposes: Option<Vec<String>>,
}
