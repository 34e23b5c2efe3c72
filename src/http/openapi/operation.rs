//! One route in words: what it takes, what it answers, how it may refuse. Knows no route in particular.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use super::{
    codes,
    shape::{named, text},
};

/// Refusals by status.
type Codes = BTreeMap<u16, BTreeSet<&'static str>>;

/// What there is to say of a route besides method, path and action.
pub(super) struct Operation {
    name: &'static str,
    tag: &'static str,
    summary: &'static str,
    told: String,
    parameters: Vec<Json>,
    body: Option<Json>,
    answer: Json,
    codes: Codes,
}

/// A route that somebody must be permitted to take: the part of the description where it stands, its name for programs, what it does.
pub(super) fn operation(tag: &'static str, name: &'static str, summary: &'static str) -> Operation {
    open(tag, name, summary).fails_as(codes::SIGNED_IN)
}

/// A route that everybody may take.
pub(super) fn open(tag: &'static str, name: &'static str, summary: &'static str) -> Operation {
    let (parameters, codes) = (Vec::new(), Codes::new());
    Operation { name, tag, summary, told: String::new(), parameters, body: None, answer: json!({}), codes }
        .fails(503, ["unavailable"])
}

impl Operation {
    /// More than the summary says.
    pub(super) fn told(mut self, text: impl Into<String>) -> Self {
        self.told = text.into();
        self
    }

    pub(super) fn query(mut self, name: &str, schema: Json) -> Self {
        self.parameters.push(json!({"name": name, "in": "query", "required": false, "schema": schema}));
        self.fails_as(codes::QUERY)
    }

    pub(super) fn required_query(mut self, name: &str, schema: Json, example: &str) -> Self {
        let parameter = json!({"name": name, "in": "query", "required": true, "schema": schema, "example": example});
        self.parameters.push(parameter);
        self.fails_as(codes::QUERY)
    }

    pub(super) fn header(mut self, name: &str, schema: Json) -> Self {
        self.parameters.push(json!({"name": name, "in": "header", "required": false, "schema": schema}));
        self
    }

    /// Takes JSON of at most `bytes`.
    pub(super) fn takes(mut self, shape: &str, bytes: usize, examples: &[(&str, Json)]) -> Self {
        let content = json!({"application/json": {"schema": named(shape), "examples": shown(examples)}});
        let told = format!("At most {bytes} bytes. A body without `Content-Type` is taken for JSON.");
        self.body = Some(json!({"required": true, "description": told, "content": content}));
        self.fails_as(codes::BODY)
    }

    /// And another form of body.
    pub(super) fn or_takes(mut self, kind: &str, about: &str, example: &str) -> Self {
        let form = json!({"schema": text(about), "example": example});
        if let Some(content) = self.body.as_mut().and_then(|body| body.get_mut("content")).and_then(Json::as_object_mut)
        {
            content.insert(kind.into(), form);
        }
        self
    }

    pub(super) fn answers(mut self, shape: &str, about: &str) -> Self {
        self.answer = json!({"description": about, "content": {"application/json": {"schema": named(shape)}}});
        self
    }

    /// The same with an example of it.
    pub(super) fn answers_with(mut self, shape: &str, about: &str, example: Json) -> Self {
        let content = json!({"application/json": {"schema": named(shape), "example": example}});
        self.answer = json!({"description": about, "content": content});
        self
    }

    pub(super) fn answers_in(mut self, kind: &str, about: &str) -> Self {
        self.answer = json!({"description": about, "content": {kind: {"schema": {"type": "string"}}}});
        self
    }

    /// A header of the answer.
    pub(super) fn tagged(mut self, header: &str, about: &str) -> Self {
        if let Some(answer) = self.answer.as_object_mut() {
            answer.insert("headers".into(), json!({header: {"description": about, "schema": {"type": "string"}}}));
        }
        self
    }

    pub(super) fn fails(mut self, status: u16, codes: impl IntoIterator<Item = &'static str>) -> Self {
        self.codes.entry(status).or_default().extend(codes);
        self
    }

    pub(super) fn fails_as(self, all: &[(u16, &[&'static str])]) -> Self {
        all.iter().fold(self, |this, (status, codes)| this.fails(*status, codes.iter().copied()))
    }

    /// A refusal that this route never gives.
    pub(super) fn never(mut self, status: u16) -> Self {
        self.codes.remove(&status);
        self
    }

    /// Every code that it names, with its status.
    #[cfg(test)]
    pub(super) fn codes(&self) -> impl Iterator<Item = (u16, &'static str)> + '_ {
        self.codes.iter().flat_map(|(status, codes)| codes.iter().map(|code| (*status, *code)))
    }

    /// As it stands under its path and method; `action` is that of `ROUTES`.
    pub(super) fn render(mut self, path: &str, action: &str) -> Json {
        let mut parameters: Vec<Json> = in_path(path);
        if !parameters.is_empty() {
            self = self.fails(400, ["malformed_request"]);
        }
        parameters.append(&mut self.parameters);
        let mut responses = Map::new();
        responses.insert("200".into(), with_request_id(self.answer));
        responses.extend(self.codes.iter().map(|(status, codes)| (status.to_string(), refusal(*status, codes))));
        let (actions, needed) = match action {
            "none" => (vec![], "Needs no credential.".to_owned()),
            action => (action.split(", ").collect(), format!("Action: `{}`.", action.replace(", ", "`, `"))),
        };
        let mut operation = json!({
            "operationId": self.name,
            "tags": [self.tag],
            "summary": self.summary,
            "description": format!("{}\n\n{needed}", self.told).trim_start(),
            "parameters": parameters,
            "responses": responses,
            "x-wardkeep-actions": actions,
        });
        if let Some(fields) = operation.as_object_mut() {
            if let Some(body) = self.body {
                fields.insert("requestBody".into(), body);
            }
            if action == "none" {
                fields.insert("security".into(), json!([]));
            }
        }
        operation
    }
}

fn shown(examples: &[(&str, Json)]) -> Json {
    let named = |(at, (summary, value)): (usize, &(&str, Json))| {
        (format!("{}", at + 1), json!({"summary": summary, "value": value}))
    };
    Json::Object(examples.iter().enumerate().map(named).collect())
}

/// Parameters that stand in the path.
fn in_path(path: &str) -> Vec<Json> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| parameter(path, name))
        .collect()
}

fn parameter(path: &str, name: &str) -> Json {
    let (about, example) = match (name, path.contains("/records/")) {
        ("c", _) => ("Name of the collection: `[a-z0-9][a-z0-9_-]{0,63}`.", "notes"),
        ("id", true) => ("Id of the record, percent-encoded: `a/b` is `a%2Fb`.", "note-1"),
        ("id", false) => ("Id of the entity, percent-encoded.", "m-P000043"),
        ("type", _) => ("Type of the entity, as the schema declares it.", "Patient"),
        _ => ("Public name of the key.", "0011223344556677"),
    };
    json!({"name": name, "in": "path", "required": true, "schema": text(about), "example": example})
}

fn refusal(status: u16, codes: &BTreeSet<&'static str>) -> Json {
    let told: Vec<String> =
        codes.iter().map(|code| format!("- `{code}`: {}", codes::meaning(code).unwrap_or_default())).collect();
    let schema = json!({"allOf": [
        named("Problem"),
        {"properties": {"status": {"const": status}, "code": {"enum": codes}}},
    ]});
    with_request_id(json!({
        "description": told.join("\n"),
        "content": {"application/problem+json": {"schema": schema}},
    }))
}

fn with_request_id(mut response: Json) -> Json {
    if let Some(fields) = response.as_object_mut() {
        let headers = fields.entry("headers").or_insert_with(|| json!({}));
        if let Some(headers) = headers.as_object_mut() {
            headers.insert("X-Request-Id".into(), json!({"$ref": "#/components/headers/RequestId"}));
        }
    }
    response
}
