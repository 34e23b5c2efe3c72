//! Generated expressions, led by types: every operator and function, `resource` on either side, both or neither, optional
//! attributes guarded by `has` so that strict validation mostly passes.

use super::{
    design::{Design, Field, Ty, is_plain},
    dice::Dice,
    values::{entity_literal, is_name, literal, reference, text},
};

/// An expression, and what must hold so that it may be written.
#[derive(Debug, Clone)]
struct Term {
    text: String,
    needs: Vec<String>,
}

/// A way from a variable or an entity to a value.
#[derive(Debug, Clone)]
struct Place {
    term: Term,
    ty: Ty,
    root: Root,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    Resource,
    Other,
}

/// Where the values of an operand come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Resource,
    Other,
    Any,
}

/// Writes expressions for one kind of caller.
pub(super) struct Writer<'a> {
    dice: &'a mut Dice,
    design: &'a Design,
    places: Vec<Place>,
    /// An attribute of the record: atoms that read one alone can be bound by value.
    focus: String,
}

const STEPS: usize = 3;

impl<'a> Writer<'a> {
    pub(super) fn new(dice: &'a mut Dice, design: &'a Design, principal: &str) -> Self {
        let mut roots = vec![
            ("resource".to_owned(), Ty::Entity("Record".into()), Root::Resource),
            ("principal".to_owned(), Ty::Entity(principal.into()), Root::Other),
            ("context".to_owned(), Ty::Record(design.context.clone()), Root::Other),
        ];
        for ty in ["Staff", "Team", "Patient", "Level"] {
            roots.push((entity_literal(&reference(dice, design, ty)), Ty::Entity(ty.into()), Root::Other));
        }
        let mut places = Vec::new();
        for (text, ty, root) in roots {
            let place = Place { term: Term { text, needs: vec![] }, ty, root };
            walk(dice, design, place, STEPS, &mut places);
        }
        Self { dice, design, places, focus: String::new() }
    }

    /// A condition, whole.
    pub(super) fn condition(&mut self, depth: usize) -> String {
        let term = self.boolean(depth);
        self.closed(term)
    }

    fn closed(&mut self, term: Term) -> String {
        // now and then a guard is forgotten: the validator mostly refuses
        if term.needs.is_empty() || self.dice.one_in(60) {
            return term.text;
        }
        let guards = term.needs.join(" && ");
        match self.dice.below(8) {
            0 => format!("(if {guards} then {} else {})", term.text, self.dice.one_in(2)),
            _ => format!("({guards} && {})", term.text),
        }
    }

    fn boolean(&mut self, depth: usize) -> Term {
        if depth == 0 || self.dice.percent(25) {
            return self.atom(depth);
        }
        let shape = self.dice.below(12);
        let (a, b) = (self.boolean(depth - 1), self.boolean(depth - 1));
        // guards before the whole, or before each part
        let (a, b) = if self.dice.one_in(3) { (a, b) } else { (bare(self.closed(a)), bare(self.closed(b))) };
        match shape {
            0..=3 => joined(&[&a, &b], |t| format!("({} && {})", t[0], t[1])),
            4..=7 => joined(&[&a, &b], |t| format!("({} || {})", t[0], t[1])),
            8..=9 => joined(&[&a], |t| format!("!({})", t[0])),
            10 => {
                let c = self.boolean(depth - 1);
                let c = self.closed(c);
                joined(&[&a, &b], |t| format!("(if {c} then {} else {})", t[0], t[1]))
            }
            _ => {
                let op = *self.dice.pick(&["==", "!="]);
                joined(&[&a, &b], |t| format!("({} {op} {})", t[0], t[1]))
            }
        }
    }

    /// Which side of an operator `resource` is on.
    fn sides(&mut self) -> (Side, Side) {
        let own = self.design.shape("Record");
        if let Some(field) = (!own.fields.is_empty()).then(|| self.dice.pick(&own.fields)) {
            self.focus = attribute("resource", &field.name);
        }
        match self.dice.below(20) {
            0..=7 => (Side::Resource, Side::Other),
            8..=12 => (Side::Other, Side::Resource),
            13..=16 => (Side::Resource, Side::Resource),
            17..=18 => (Side::Other, Side::Other),
            _ => (Side::Any, Side::Any),
        }
    }

    /// One operator or function that comes to a truth value.
    fn atom(&mut self, depth: usize) -> Term {
        let (l, r) = self.sides();
        match self.dice.below(62) {
            0..=1 => self.place(&Ty::Bool, l).unwrap_or_else(|| bare("true")),
            2..=5 => self.equality(depth, l, r),
            6..=9 => {
                let ty = self.dice.pick(&[Ty::Long, Ty::Long, Ty::Datetime, Ty::Duration]).clone();
                let op = *self.dice.pick(&["<", "<=", ">", ">="]);
                self.two(&ty, &ty, depth, (l, r), |a, b| format!("({a} {op} {b})"))
            }
            10..=14 => {
                let op = *self.dice.pick(&["lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"]);
                self.two(&Ty::Decimal, &Ty::Decimal, depth, (l, r), |a, b| format!("{a}.{op}({b})"))
            }
            15..=18 => {
                let op = *self.dice.pick(&["isIpv4", "isIpv6", "isLoopback", "isMulticast"]);
                let ip = self.value(&Ty::Ip, depth, l);
                joined(&[&ip], |t| format!("{}.{op}()", t[0]))
            }
            19 => self.two(&Ty::Ip, &Ty::Ip, depth, (l, r), |a, b| format!("{a}.isInRange({b})")),
            20..=21 => {
                let operand = self.value(&Ty::Text, depth, l);
                let pattern = *self.dice.pick(&["*", "a*", "*a*", "", "n?rth", "\\*a", "*é*", "k*n*"]);
                joined(&[&operand], |t| format!("({} like \"{pattern}\")", t[0]))
            }
            22..=27 => self.of_sets(depth, l, r),
            28..=30 => self.within(depth, l, r),
            31..=32 => self.is(depth, l),
            33..=35 => self.has(depth, l),
            36..=37 => self.has_tag(depth, l, r),
            38 => self.of_action(),
            39 => bare(self.dice.one_in(2).to_string()),
            40..=52 => self.calculation(depth, l, r),
            53..=55 => self.of_sets(depth, l, r),
            56..=60 => self.within(depth, l, r),
            _ => {
                // seldom: arithmetic that may err
                let op = *self.dice.pick(&["==", "<", ">"]);
                self.two(&Ty::Long, &Ty::Long, depth + 1, (l, r), |a, b| format!("({a} {op} {b})"))
            }
        }
    }

    /// Arithmetic, and the functions of moments and durations.
    fn calculation(&mut self, depth: usize, l: Side, r: Side) -> Term {
        let op = *self.dice.pick(&["<", "<=", ">", ">=", "==", "!="]);
        let units = ["toMilliseconds", "toSeconds", "toMinutes", "toHours", "toDays"];
        let (far, shape) = (if self.dice.one_in(2) { l } else { r }, self.dice.below(14));
        let (result, calculated) = match shape {
            0..=4 => {
                let operand = self.value(&Ty::Duration, depth, l);
                (Ty::Long, joined(&[&operand], |t| format!("{}.{}()", t[0], units[shape])))
            }
            5 => {
                let operand = self.value(&Ty::Datetime, depth, l);
                (Ty::Datetime, joined(&[&operand], |t| format!("{}.toDate()", t[0])))
            }
            6 => {
                let operand = self.value(&Ty::Datetime, depth, l);
                (Ty::Duration, joined(&[&operand], |t| format!("{}.toTime()", t[0])))
            }
            7 => {
                let moved = self.two(&Ty::Datetime, &Ty::Duration, depth, (l, far), |a, b| format!("{a}.offset({b})"));
                (Ty::Datetime, moved)
            }
            8 => {
                let since = |a: &str, b: &str| format!("{a}.durationSince({b})");
                (Ty::Duration, self.two(&Ty::Datetime, &Ty::Datetime, depth, (l, far), since))
            }
            9 => {
                let operand = self.value(&Ty::Long, depth, l);
                (Ty::Long, joined(&[&operand], |t| format!("(-({}))", t[0])))
            }
            10 => return self.of_action(),
            _ => {
                let sign = ["+", "-", "*"][shape - 11];
                (Ty::Long, self.two(&Ty::Long, &Ty::Long, depth, (l, far), |a, b| format!("({a} {sign} {b})")))
            }
        };
        let other = self.value(&result, 0, r);
        match self.dice.one_in(2) {
            true => joined(&[&calculated, &other], |t| format!("({} {op} {})", t[0], t[1])),
            false => joined(&[&other, &calculated], |t| format!("({} {op} {})", t[0], t[1])),
        }
    }

    fn two(&mut self, a: &Ty, b: &Ty, depth: usize, (l, r): (Side, Side), make: impl Fn(&str, &str) -> String) -> Term {
        let (a, b) = (self.value(a, depth, l), self.value(b, depth, r));
        joined(&[&a, &b], |t| make(t[0], t[1]))
    }

    fn equality(&mut self, depth: usize, l: Side, r: Side) -> Term {
        let op = *self.dice.pick(&["==", "==", "!="]);
        let ty = self.some_type(if l == Side::Other { r } else { l });
        self.two(&ty, &ty, depth, (l, r), |a, b| format!("({a} {op} {b})"))
    }

    /// The type of some place on this side.
    fn some_type(&mut self, side: Side) -> Ty {
        let places: Vec<&Place> = self.places.iter().filter(|place| admits(side, place)).collect();
        if places.is_empty() { Ty::Long } else { self.dice.pick(&places).ty.clone() }
    }

    fn of_sets(&mut self, depth: usize, l: Side, r: Side) -> Term {
        let sets: Vec<Ty> = self.places.iter().filter(|p| matches!(p.ty, Ty::Set(_))).map(|p| p.ty.clone()).collect();
        let ty = match self.dice.below(3) {
            0 => Ty::Set(Box::new(self.some_type(r))),
            _ if sets.is_empty() => Ty::Set(Box::new(Ty::Text)),
            _ => self.dice.pick(&sets).clone(),
        };
        let Ty::Set(item) = ty.clone() else { return bare("true") };
        match self.dice.below(8) {
            0..=1 => self.two(&ty, &item, depth, (l, r), |a, b| format!("{a}.contains({b})")),
            2..=3 => self.two(&ty, &ty, depth, (l, r), |a, b| format!("{a}.containsAll({b})")),
            4..=5 => self.two(&ty, &ty, depth, (l, r), |a, b| format!("{a}.containsAny({b})")),
            6 => {
                let set = self.value(&ty, depth, l);
                joined(&[&set], |t| format!("{}.isEmpty()", t[0]))
            }
            _ => self.two(&ty, &ty, depth, (l, r), |a, b| format!("({a} == {b})")),
        }
    }

    fn entity_type(&mut self, side: Side) -> String {
        let entity = |place: &Place| match &place.ty {
            Ty::Entity(name) if admits(side, place) => Some(name.clone()),
            _ => None,
        };
        let types: Vec<String> = self.places.iter().filter_map(entity).collect();
        if types.is_empty() { "Team".into() } else { self.dice.pick(&types).clone() }
    }

    /// A type that `below` may lie in, mostly.
    fn above(&mut self, below: &str) -> String {
        let parents = &self.design.shape(below).parents;
        match self.dice.below(6) {
            0 => below.to_owned(),
            1 => "Team".into(),
            _ if parents.is_empty() => below.to_owned(),
            _ => self.dice.pick(parents).clone(),
        }
    }

    fn within(&mut self, depth: usize, l: Side, r: Side) -> Term {
        let below = if l == Side::Resource && self.dice.one_in(3) { "Record".into() } else { self.entity_type(l) };
        let above = Ty::Entity(self.above(&below));
        let set = self.dice.one_in(2);
        let above = if set { Ty::Set(Box::new(above)) } else { above };
        let descendant = match below.as_str() {
            "Record" if l == Side::Resource => bare("resource"),
            below => self.value(&Ty::Entity(below.into()), depth, l),
        };
        let ancestor = self.value(&above, depth, r);
        joined(&[&descendant, &ancestor], |t| format!("({} in {})", t[0], t[1]))
    }

    fn is(&mut self, depth: usize, side: Side) -> Term {
        let ty = self.entity_type(side);
        let of = if self.dice.one_in(4) { "Team".to_owned() } else { ty.clone() };
        let operand = self.value(&Ty::Entity(ty), depth, side);
        if self.dice.one_in(3) {
            return joined(&[&operand], |t| format!("({} is {of})", t[0]));
        }
        let above = Ty::Entity(self.above(&of));
        let above = if self.dice.one_in(3) { Ty::Set(Box::new(above)) } else { above };
        let ancestor = self.value(&above, depth, Side::Other);
        joined(&[&operand, &ancestor], |t| format!("({} is {of} in {})", t[0], t[1]))
    }

    fn has(&mut self, depth: usize, side: Side) -> Term {
        let holders: Vec<&Place> =
            self.places.iter().filter(|p| admits(side, p) && !fields(self.design, &p.ty).is_empty()).collect();
        let Some(holder) = (!holders.is_empty()).then(|| (*self.dice.pick(&holders)).clone()) else {
            return bare("true");
        };
        let operand = match self.dice.one_in(6) {
            true => self.value(&holder.ty, depth, side),
            false => holder.term,
        };
        let mut ty = holder.ty;
        let mut names: Vec<String> = Vec::new();
        loop {
            let fields = fields(self.design, &ty);
            let optional: Vec<&Field> = fields.iter().filter(|f| !f.required).collect();
            let candidates =
                if optional.is_empty() || self.dice.one_in(3) { fields.iter().collect() } else { optional };
            let Some(field) = (!candidates.is_empty()).then(|| (*self.dice.pick(&candidates)).clone()) else { break };
            if !is_name(&field.name) && !names.is_empty() {
                break;
            }
            names.push(field.name.clone());
            ty = field.ty;
            if !is_name(&field.name) || names.len() == 3 || self.dice.one_in(2) {
                break;
            }
        }
        let path = match names.as_slice() {
            [one] if !is_name(one) => format!("\"{one}\""),
            names => names.join("."),
        };
        joined(&[&operand], |t| format!("({} has {path})", t[0]))
    }

    fn key(&mut self, depth: usize, side: Side) -> Term {
        match side {
            Side::Other if self.dice.one_in(3) => self.value(&Ty::Text, depth, side),
            Side::Any | Side::Resource if self.dice.one_in(12) => self.value(&Ty::Text, 0, side),
            _ => bare(text(self.dice)),
        }
    }

    /// An entity that may have tags, and their type.
    fn tagged(&mut self, depth: usize, side: Side) -> Option<(Term, Ty)> {
        let tags = |place: &Place| match &place.ty {
            Ty::Entity(name) if admits(side, place) => Some((place.clone(), self.design.shape(name).tags.clone()?)),
            _ => None,
        };
        let holders: Vec<(Place, Ty)> = self.places.iter().filter_map(tags).collect();
        let (holder, ty) = (!holders.is_empty()).then(|| self.dice.pick(&holders).clone())?;
        let term = if self.dice.one_in(6) { self.value(&holder.ty, depth, side) } else { holder.term };
        Some((term, ty))
    }

    fn has_tag(&mut self, depth: usize, l: Side, r: Side) -> Term {
        let Some((holder, _)) = self.tagged(depth, l) else { return bare("false") };
        let key = self.key(depth, r);
        joined(&[&holder, &key], |t| format!("{}.hasTag({})", t[0], t[1]))
    }

    fn of_action(&mut self) -> Term {
        let action =
            |dice: &mut Dice| format!("Action::\"{}\"", dice.pick(&["Retrieve", "Read", "ReadVector", "Search"]));
        let group = match self.design.groups.as_slice() {
            [] => action(self.dice),
            groups => format!("Action::\"{}\"", self.dice.pick(groups)),
        };
        let one = action(self.dice);
        let left = if self.dice.one_in(4) { action(self.dice) } else { "action".into() };
        bare(match self.dice.below(5) {
            0 => format!("({left} == {one})"),
            1 => format!("({left} != {one})"),
            2..=3 => format!("({left} in {group})"),
            _ => format!("({left} in [{one}, {group}])"),
        })
    }

    /// A place of this type, with one of its tags as another.
    fn place(&mut self, ty: &Ty, side: Side) -> Option<Term> {
        let fit: Vec<&Place> = self.places.iter().filter(|p| p.ty == *ty && admits(side, p)).collect();
        let focused: Vec<&Place> = fit.iter().filter(|p| p.term.text.starts_with(&self.focus)).copied().collect();
        let pool = if side == Side::Resource && !focused.is_empty() && self.dice.percent(60) { focused } else { fit };
        if !pool.is_empty() && !self.dice.one_in(6) {
            return Some(self.dice.pick(&pool).term.clone());
        }
        let plain = (!pool.is_empty()).then(|| self.dice.pick(&pool).term.clone());
        for _ in 0..3 {
            let Some((holder, of)) = self.tagged(0, side) else { break };
            if of == *ty {
                let key = self.key(0, if side == Side::Resource { Side::Other } else { side });
                let mut term = joined(&[&holder, &key], |t| format!("{}.getTag({})", t[0], t[1]));
                term.needs.push(format!("{}.hasTag({})", holder.text, key.text));
                return Some(term);
            }
        }
        plain
    }

    /// An expression of this type.
    fn value(&mut self, ty: &Ty, depth: usize, side: Side) -> Term {
        let calculated = depth > 0 && self.dice.percent(45);
        if calculated && let Some(term) = self.calculated(ty, depth - 1, side) {
            return term;
        }
        let wants_literal = match side {
            Side::Resource => false,
            Side::Other => self.dice.percent(40),
            Side::Any => self.dice.percent(20),
        };
        if !wants_literal && let Some(term) = self.place(ty, side) {
            return term;
        }
        match literal(self.dice, self.design, ty) {
            Some(text) => bare(text),
            None => self.place(ty, Side::Any).unwrap_or_else(|| bare(self.record(ty))),
        }
    }

    /// A record that has every field, where no literal would do; the validator refuses most.
    fn record(&mut self, ty: &Ty) -> String {
        let Ty::Record(fields) = ty else { return "true".into() };
        let field =
            |field: &Field| Some(format!("\"{}\": {}", field.name, literal(self.dice, self.design, &field.ty)?));
        format!("{{{}}}", fields.iter().filter_map(field).collect::<Vec<_>>().join(", "))
    }

    fn calculated(&mut self, ty: &Ty, depth: usize, side: Side) -> Option<Term> {
        match self.dice.below(10) {
            0 => return Some(self.chosen(ty, depth, side)),
            1 => return Some(self.projected(ty, depth, side)),
            2..=3 => {
                if let Some(term) = self.attribute_of(ty, depth, side) {
                    return Some(term);
                }
            }
            _ => {}
        }
        let other = if side == Side::Resource { Side::Other } else { side };
        match ty {
            Ty::Long => Some(match self.dice.below(10) {
                0 => {
                    let operand = self.value(&Ty::Long, depth, side);
                    joined(&[&operand], |t| format!("(-({}))", t[0]))
                }
                1..=4 => {
                    let op = *self.dice.pick(&["+", "-", "*"]);
                    let (l, r) = if self.dice.one_in(2) { (side, other) } else { (other, side) };
                    self.two(&Ty::Long, &Ty::Long, depth, (l, r), |a, b| format!("({a} {op} {b})"))
                }
                _ => {
                    let unit = ["toMilliseconds", "toSeconds", "toMinutes", "toHours", "toDays"];
                    let unit = *self.dice.pick(&unit);
                    let operand = self.value(&Ty::Duration, depth, side);
                    joined(&[&operand], |t| format!("{}.{unit}()", t[0]))
                }
            }),
            Ty::Datetime => Some(if self.dice.one_in(3) {
                let operand = self.value(&Ty::Datetime, depth, side);
                joined(&[&operand], |t| format!("{}.toDate()", t[0]))
            } else {
                self.two(&Ty::Datetime, &Ty::Duration, depth, (side, other), |a, b| format!("{a}.offset({b})"))
            }),
            Ty::Duration => Some(if self.dice.one_in(3) {
                let operand = self.value(&Ty::Datetime, depth, side);
                joined(&[&operand], |t| format!("{}.toTime()", t[0]))
            } else {
                self.two(&Ty::Datetime, &Ty::Datetime, depth, (side, other), |a, b| format!("{a}.durationSince({b})"))
            }),
            Ty::Set(item) => {
                let items: Vec<Term> = (0..self.dice.between(1, 3))
                    .map(|at| self.value(item, depth, if at == 0 { side } else { other }))
                    .collect();
                Some(joined(&items.iter().collect::<Vec<_>>(), |t| format!("[{}]", t.join(", "))))
            }
            Ty::Record(fields) if fields.iter().all(|field| field.required) => {
                let fields = fields.clone();
                let values: Vec<Term> = fields.iter().map(|field| self.value(&field.ty, depth, side)).collect();
                Some(joined(&values.iter().collect::<Vec<_>>(), |t| {
                    let pairs = fields.iter().zip(t).map(|(field, text)| format!("\"{}\": {text}", field.name));
                    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
                }))
            }
            Ty::Bool => Some(self.atom(depth)),
            Ty::Text | Ty::Decimal | Ty::Ip | Ty::Entity(_) | Ty::Record(_) => None,
        }
    }

    fn chosen(&mut self, ty: &Ty, depth: usize, side: Side) -> Term {
        let condition = self.atom(depth);
        let condition = self.closed(condition);
        let (l, r) = if self.dice.one_in(2) { (side, Side::Other) } else { (Side::Other, side) };
        self.two(ty, ty, depth, (l, r), |a, b| format!("(if {condition} then {a} else {b})"))
    }

    fn projected(&mut self, ty: &Ty, depth: usize, side: Side) -> Term {
        let (a, b) = (self.value(ty, depth, side), self.value(&Ty::Long, 0, Side::Other));
        match self.dice.below(3) {
            0 => joined(&[&a, &b], |t| format!("{{a: {}, b: {}}}.a", t[0], t[1])),
            1 => joined(&[&a, &b], |t| format!("{{\"x y\": {}, b: {}}}[\"x y\"]", t[0], t[1])),
            _ => joined(&[&a, &b], |t| format!("{{a: {{b: {}}}, c: {}}}.a.b", t[0], t[1])),
        }
    }

    /// An attribute of an entity that is itself calculated.
    fn attribute_of(&mut self, ty: &Ty, depth: usize, side: Side) -> Option<Term> {
        let shapes = self.design.shapes.iter();
        let holders: Vec<(String, Field)> = shapes
            .flat_map(|shape| shape.fields.iter().map(|field| (shape.name.clone(), field.clone())))
            .filter(|(_, field)| field.ty == *ty)
            .collect();
        let (holder, field) = (!holders.is_empty()).then(|| self.dice.pick(&holders).clone())?;
        let mut term = self.value(&Ty::Entity(holder), depth, side);
        if !field.required {
            let name = if is_name(&field.name) { field.name.clone() } else { format!("\"{}\"", field.name) };
            term.needs.push(format!("{} has {name}", term.text));
        }
        term.text = attribute(&term.text, &field.name);
        Some(term)
    }
}

fn admits(side: Side, place: &Place) -> bool {
    match side {
        Side::Resource => place.root == Root::Resource,
        Side::Other => place.root == Root::Other,
        Side::Any => true,
    }
}

fn bare(text: impl Into<String>) -> Term {
    Term { text: text.into(), needs: vec![] }
}

/// A term of several, with all that they need, once each.
fn joined(parts: &[&Term], make: impl FnOnce(&[&str]) -> String) -> Term {
    let mut needs: Vec<String> = Vec::new();
    for need in parts.iter().flat_map(|part| &part.needs) {
        if !needs.contains(need) {
            needs.push(need.clone());
        }
    }
    let texts: Vec<&str> = parts.iter().map(|part| part.text.as_str()).collect();
    Term { text: make(&texts), needs }
}

fn attribute(of: &str, name: &str) -> String {
    if is_plain(name) && is_name(name) { format!("{of}.{name}") } else { format!("{of}[\"{name}\"]") }
}

fn fields<'d>(design: &'d Design, ty: &'d Ty) -> &'d [Field] {
    match ty {
        Ty::Entity(name) => &design.shape(name).fields,
        Ty::Record(fields) => fields,
        _ => &[],
    }
}

/// All places from here, as far as so many steps lead.
fn walk(dice: &mut Dice, design: &Design, place: Place, steps: usize, found: &mut Vec<Place>) {
    if steps > 0 {
        for field in fields(design, &place.ty) {
            let text = attribute(&place.term.text, &field.name);
            let mut needs = place.term.needs.clone();
            if !field.required {
                let name = if is_name(&field.name) { field.name.clone() } else { format!("\"{}\"", field.name) };
                let whole = needs.last().filter(|last| last.replacen(" has ", ".", 1) == place.term.text).cloned();
                match whole {
                    Some(last) if is_name(&field.name) && dice.one_in(3) => {
                        needs.pop();
                        needs.push(format!("{last}.{name}"));
                    }
                    _ => needs.push(format!("{} has {name}", place.term.text)),
                }
            }
            let next = Place { term: Term { text, needs }, ty: field.ty.clone(), root: place.root };
            walk(dice, design, next, steps - 1, found);
        }
    }
    found.push(place);
}
