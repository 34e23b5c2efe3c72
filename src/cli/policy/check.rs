//! `policy check`: whether a bundle compiles, how it will be decided, and what is probably not meant in it; without a store.

use std::path::PathBuf;

use clap::Args;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Value as Json, json};

use super::source::Folder;
use crate::{
    cli::{Failure, Outcome, print_json},
    policy::{Bundle, BundleFault, Code, Forecast, Means, Place, Warning},
};

#[derive(Args)]
pub(in crate::cli) struct Check {
    /// Directory with one `.cedarschema`, any number of `.cedar` files, and perhaps `links.json`
    #[arg(value_name = "DIR")]
    bundle: PathBuf,
    /// Warnings count as faults
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> Outcome {
        let folder = Folder::open(&self.bundle, "")?;
        let compiled = Bundle::compile(&folder.source);
        let (faults, bundle) = match compiled {
            Ok(bundle) => (bundle.objections().to_vec(), Some(bundle)),
            Err(faults) => (faults, None),
        };
        let warnings = bundle.as_ref().map_or(&[][..], |bundle| bundle.warnings());
        let found = !faults.is_empty() || (self.strict && !warnings.is_empty());
        let forecasts = bundle.as_ref().map(Bundle::forecast).unwrap_or_default();
        if self.json {
            print_json(&json!({
                "valid": !found,
                "digest": bundle.as_ref().map(|bundle| hex::encode(bundle.digest())),
                "errors": faults.iter().map(|fault| fault_json(&folder, fault)).collect::<Vec<_>>(),
                "warnings": warnings.iter().map(|warning| warning_json(&folder, warning)).collect::<Vec<_>>(),
                "policies": forecasts.iter().map(|forecast| forecast_json(&folder, forecast)).collect::<Vec<_>>(),
            }));
        } else {
            if let Some(bundle) = &bundle {
                println!("{}", table(&folder, &forecasts));
                println!("digest {}", hex::encode(bundle.digest()));
            }
            faults.iter().for_each(|fault| print!("{}", folder.fault(fault)));
            warnings.iter().for_each(|warning| print!("{}", folder.warning(warning)));
            println!(
                "{}; {} to mend, {} warnings",
                if found { "refused" } else { "valid" },
                faults.len(),
                warnings.len()
            );
        }
        if found { Err(Failure::Found) } else { Ok(()) }
    }
}

/// A place as programs read it: in the file, not in the joined text.
fn place_json(folder: &Folder, place: Option<&Place>) -> Json {
    match place.and_then(|place| folder.locate(place)) {
        Some(at) => json!({"file": at.path, "line": at.line, "column": at.column}),
        None => json!({"file": null, "line": null, "column": null}),
    }
}

fn with_place(folder: &Folder, place: Option<&Place>, mut json: Json) -> Json {
    if let (Some(fields), Json::Object(place)) = (json.as_object_mut(), place_json(folder, place)) {
        fields.extend(place);
    }
    json
}

fn fault_json(folder: &Folder, fault: &BundleFault) -> Json {
    let json = json!({"code": fault.code, "policy": fault.policy, "detail": fault.message});
    with_place(folder, fault.place.as_ref(), json)
}

fn warning_json(folder: &Folder, warning: &Warning) -> Json {
    let json = json!({"code": warning.code.name(), "policy": warning.policy, "detail": warning.message});
    with_place(folder, warning.place.as_ref(), json)
}

fn forecast_json(folder: &Folder, forecast: &Forecast) -> Json {
    let [max_records, max_patients] = forecast.caps;
    let json = json!({
        "policy": forecast.name.as_ref(),
        "effect": forecast.permits.map(effect),
        "links": forecast.links,
        "decided": forecast.means.map(Means::name),
        "clause": forecast.clause,
        "max_records": max_records,
        "max_patients": max_patients,
        "remarks": forecast.remarks.iter().map(|code| code.name()).collect::<Vec<_>>(),
    });
    with_place(folder, forecast.place.as_ref(), json)
}

fn effect(permits: bool) -> &'static str {
    if permits { "permit" } else { "forbid" }
}

fn decided(means: Means) -> &'static str {
    match means {
        Means::Once => "once a request",
        Means::Indexed => "by look-up",
        Means::ByValue => "once a value",
        Means::Asked => "record by record",
    }
}

fn table(folder: &Folder, forecasts: &[Forecast]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(["policy", "effect", "caps", "decided", "because of", "where"]);
    for forecast in forecasts {
        let links = forecast.links.map(|n| format!(" ({n} links)")).unwrap_or_default();
        let cap = |cap: Option<u64>, of| cap.map(|n| format!("{n} {of}"));
        let [records, patients] = forecast.caps;
        let caps: Vec<_> = [cap(records, "records"), cap(patients, "patients")].into_iter().flatten().collect();
        let mut means = forecast.means.map_or("never", decided).to_owned();
        forecast.remarks.iter().for_each(|code| means.push_str(&format!("\n{}", remark(*code))));
        let place = forecast.place.as_ref().and_then(|place| folder.locate(place));
        let file =
            |at: &super::source::Located<'_>| at.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        table.add_row([
            format!("{}{links}", forecast.name),
            forecast.permits.map_or("", effect).to_owned(),
            caps.join(", "),
            means,
            forecast.clause.as_deref().map(shortened).unwrap_or_default(),
            place.map(|at| format!("{}:{}", file(&at), at.line)).unwrap_or_default(),
        ]);
    }
    table
}

fn remark(code: Code) -> &'static str {
    match code {
        Code::NeverMatches => "never matches",
        Code::Shadowed => "superfluous",
        Code::CapWithoutEffect => "cap without effect",
        Code::UnaskedAction => "never asked",
        Code::UnlinkedTemplate => "no links",
        Code::UnscopedAction
        | Code::UncappedRetrieve
        | Code::ForbidMayErr
        | Code::OptionalAttribute
        | Code::ConfusableText
        | Code::ShadowedName
        | Code::NeedlessAccept => "",
    }
}

/// A clause in so many characters as a table has room for.
fn shortened(clause: &str) -> String {
    const ROOM: usize = 60;
    if clause.chars().count() <= ROOM {
        return clause.to_owned();
    }
    clause.chars().take(ROOM - 1).chain(['…']).collect()
}
