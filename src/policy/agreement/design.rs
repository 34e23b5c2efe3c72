//! Generated schemas: what the contract requires, and around it types of every shape. Writes Cedar's text and remembers the
//! shapes, so that values and expressions can be made to fit.

use std::fmt::Write as _;

use super::dice::Dice;

/// The type of an attribute, tag or context value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ty {
    Bool,
    Long,
    Text,
    Decimal,
    Datetime,
    Duration,
    Ip,
    Entity(String),
    Set(Box<Ty>),
    Record(Vec<Field>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) ty: Ty,
    pub(super) required: bool,
}

/// One entity type.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) name: String,
    pub(super) fields: Vec<Field>,
    pub(super) tags: Option<Ty>,
    pub(super) parents: Vec<String>,
    /// The ids that the schema lists, of an enumerated type.
    pub(super) choices: Option<Vec<String>>,
}

/// A schema.
#[derive(Debug)]
pub(super) struct Design {
    pub(super) text: String,
    pub(super) shapes: Vec<Shape>,
    /// Types that may ask for records.
    pub(super) principals: Vec<String>,
    pub(super) context: Vec<Field>,
    pub(super) groups: Vec<&'static str>,
}

/// Names for attributes; some must be quoted in Cedar.
const NAMES: [&str; 12] = ["a", "b", "level", "kind", "owner", "unit", "made", "odd name", "if", "läge", "x1", "_y"];
const GROUPS: [&str; 3] = ["Look", "Touch", "Anything"];

/// Whether a name can be written without quotes.
pub(super) fn is_plain(name: &str) -> bool {
    name != "if" && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl Design {
    pub(super) fn roll(dice: &mut Dice) -> Self {
        let org = if dice.one_in(2) { "Ns::Org" } else { "Org" };
        let open = ["Staff", "Service", "Team", org, "Patient", "Document"];
        let mut types: Vec<&str> = open.to_vec();
        types.push("Level");
        if dice.one_in(4) {
            types.push("Record");
        }
        let mut shapes = Vec::new();
        for (name, most) in [("Staff", 7), ("Service", 3), ("Team", 3), (org, 4), ("Patient", 6), ("Record", 9)] {
            let least = if name == "Record" { 5 } else { most / 2 };
            let fields = fields(dice, &types, least, most, 2);
            let tags = dice.one_in(2).then(|| ty(dice, &types, 1));
            let tags = tags.or_else(|| (name == "Record" && dice.one_in(2)).then_some(Ty::Text));
            let above = ["Team", org, "Level", "Service", "Staff"];
            let mut parents: Vec<String> =
                above.iter().filter(|_| dice.one_in(3)).map(|name| (*name).to_owned()).collect();
            if name == "Record" {
                parents.extend(["Document".to_owned(), "Collection".to_owned()]);
                parents.extend(dice.one_in(8).then(|| "Record".to_owned()));
            } else if name == "Patient" && dice.one_in(6) {
                parents.push("Record".to_owned());
            } else if !parents.contains(&"Team".to_owned()) {
                parents.push("Team".to_owned());
            }
            shapes.push(Shape { name: name.to_owned(), fields, tags, parents, choices: None });
        }
        for (name, parent) in [("Document", Some("Collection")), ("Collection", Some("Team")), ("Administrator", None)]
        {
            let mut fields = fields(dice, &types, 0, 2, 1);
            fields.iter_mut().for_each(|field| field.required = false);
            let parents = parent.map(str::to_owned).into_iter().collect();
            shapes.push(Shape { name: name.to_owned(), fields, tags: None, parents, choices: None });
        }
        let choices = ["low", "mid", "high"].map(str::to_owned).to_vec();
        let level =
            Shape { name: "Level".to_owned(), fields: vec![], tags: None, parents: vec![], choices: Some(choices) };
        shapes.push(level);
        let mut principals = vec!["Staff".to_owned(), "Service".to_owned()];
        let below_records = shapes.iter().any(|s| s.name == "Patient" && s.parents.contains(&"Record".to_owned()));
        principals.extend((!below_records && dice.one_in(3)).then(|| "Patient".to_owned()));
        let context = context(dice, &types);
        let groups = GROUPS.into_iter().filter(|_| dice.one_in(2)).collect();
        let mut design = Self { text: String::new(), shapes, principals, context, groups };
        design.text = design.write(dice);
        design
    }

    pub(super) fn shape(&self, name: &str) -> &Shape {
        self.shapes.iter().find(|shape| shape.name == name).unwrap()
    }

    fn write(&self, dice: &mut Dice) -> String {
        let (mut text, mut commons) = ("entity System;\n".to_owned(), String::new());
        for shape in &self.shapes {
            let (space, name) = shape.name.split_once("::").map_or((None, &*shape.name), |(s, n)| (Some(s), n));
            let mut line = match &shape.choices {
                Some(ids) => format!("entity {name} enum [{}]", quoted(ids)),
                None => {
                    let parents = match shape.parents.as_slice() {
                        [] => String::new(),
                        parents => format!(" in [{}]", parents.join(", ")),
                    };
                    let fields = written_fields(&shape.fields, &mut commons, dice);
                    let tags = shape.tags.as_ref().map(|ty| format!(" tags {}", written(ty, &mut commons, dice)));
                    format!("entity {name}{parents} = {fields}{}", tags.unwrap_or_default())
                }
            };
            line += ";";
            match space {
                Some(space) => writeln!(text, "namespace {space} {{ {line} }}").unwrap(),
                None => writeln!(text, "{line}").unwrap(),
            }
        }
        let principals = self.principals.join(", ");
        let context = written_fields(&self.context, &mut commons, dice);
        let mut above: Vec<String> = Vec::new();
        for group in &self.groups {
            writeln!(text, "action {group}{};", within(&above)).unwrap();
            above.push((*group).to_owned());
        }
        for action in ["Retrieve", "Read", "ReadVector"] {
            let above: Vec<String> = above.iter().filter(|_| dice.one_in(2)).cloned().collect();
            writeln!(
                text,
                "action {action}{} appliesTo {{ principal: [{principals}, Administrator], resource: [Record], context: {context} }};",
                within(&above)
            )
            .unwrap();
        }
        text + &commons
            + "action Search, Ingest, Erase, Export, BreakGlass appliesTo { principal: [Staff, Administrator], resource: [Collection], context: {} };
               action ManagePolicies, ManageEntities, ManageCollections, ManageKeys, ManageCallers, ReadAudit, ReviewBreakGlass, Explain
               appliesTo { principal: [Administrator], resource: [System], context: {} };\n"
    }
}

fn within(groups: &[String]) -> String {
    if groups.is_empty() { String::new() } else { format!(" in [{}]", groups.join(", ")) }
}

fn quoted(ids: &[String]) -> String {
    ids.iter().map(|id| format!("{id:?}")).collect::<Vec<_>>().join(", ")
}

/// What the server can put into a context, or some of it; claims may have any shape.
fn context(dice: &mut Dice, types: &[&str]) -> Vec<Field> {
    let patient = if dice.one_in(2) { Ty::Text } else { Ty::Entity("Patient".into()) };
    let token = Ty::Record(fields(dice, types, 2, 6, 1));
    let offered = [
        ("purpose", Ty::Text),
        ("now", Ty::Datetime),
        ("source_ip", Ty::Ip),
        ("break_glass", Ty::Bool),
        ("patient", patient),
        ("actor", Ty::Entity("Service".into())),
        ("collection", Ty::Text),
        ("token", token),
    ];
    let mut context = Vec::new();
    for (name, ty) in offered {
        if name == "token" || dice.percent(70) {
            context.push(Field { name: name.into(), ty, required: dice.percent(70) });
        }
    }
    context
}

fn fields(dice: &mut Dice, types: &[&str], least: usize, most: usize, depth: usize) -> Vec<Field> {
    let mut found: Vec<Field> = Vec::new();
    for _ in 0..dice.between(least, most) {
        let name = *dice.pick(&NAMES);
        if found.iter().all(|field| field.name != name) {
            found.push(Field { name: name.into(), ty: ty(dice, types, depth), required: dice.percent(50) });
        }
    }
    found
}

fn ty(dice: &mut Dice, types: &[&str], depth: usize) -> Ty {
    match dice.below(if depth == 0 { 15 } else { 22 }) {
        0..=1 => Ty::Bool,
        2..=4 => Ty::Long,
        5..=6 => Ty::Text,
        7 => Ty::Decimal,
        8 => Ty::Datetime,
        9 => Ty::Duration,
        10 => Ty::Ip,
        11..=14 => Ty::Entity((*dice.pick(types)).to_owned()),
        15..=18 => Ty::Set(Box::new(ty(dice, types, depth - 1))),
        _ => Ty::Record(fields(dice, types, 1, 3, depth - 1)),
    }
}

fn written(ty: &Ty, commons: &mut String, dice: &mut Dice) -> String {
    match ty {
        Ty::Bool => "Bool".into(),
        Ty::Long => "Long".into(),
        Ty::Text => "String".into(),
        Ty::Decimal => "decimal".into(),
        Ty::Datetime => "datetime".into(),
        Ty::Duration => "duration".into(),
        Ty::Ip => "ipaddr".into(),
        Ty::Entity(name) => name.clone(),
        Ty::Set(item) => format!("Set<{}>", written(item, commons, dice)),
        Ty::Record(fields) => {
            let text = written_fields(fields, commons, dice);
            if !dice.one_in(4) {
                return text;
            }
            let name = format!("Common{}", commons.len());
            writeln!(commons, "type {name} = {text};").unwrap();
            name
        }
    }
}

fn written_fields(fields: &[Field], commons: &mut String, dice: &mut Dice) -> String {
    let field = |field: &Field| {
        let optional = if field.required { "" } else { "?" };
        let name = if is_plain(&field.name) { field.name.clone() } else { format!("{:?}", field.name) };
        format!("{name}{optional}: {}", written(&field.ty, commons, dice))
    };
    format!("{{ {} }}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
}
