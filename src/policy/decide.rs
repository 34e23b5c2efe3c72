//! The full decision: Cedar's authorizer says Allow, no policy whose scope matches erred, and none looked at an entity that
//! is not stored.

use std::{
    cell::Cell,
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use cedar_policy::{Authorizer, Decision, Entities, Request, Response};

#[cfg(test)]
use super::agreement::{Mutant, planted};
use super::{
    Bundle, DenyReason, Directory, Inquiry, PolicyName, Verdict, convert,
    slices::{Match, Matched, Slice},
    trace::{Halt, Trace},
    tree::Site,
    world::{Stored, World},
};
use crate::model::{Entity, EntityUid};

/// Each resource is decided as if it were asked alone; what Cedar needs to know is put together once for all.
pub(super) fn decide_many(
    bundle: &Bundle,
    inquiry: &Inquiry,
    resources: &[Entity],
    directory: &Directory,
) -> Vec<Verdict> {
    let all = |reason: DenyReason| vec![Verdict::Deny(reason); resources.len()];
    let own = resources.iter().find(|r| r.uid == *inquiry.principal());
    let plain = bundle.is_plain().then(|| Entity::bare(inquiry.principal().clone()));
    let Some(principal) = directory.get(inquiry.principal()).map(AsRef::as_ref).or(own).or(plain.as_ref()) else {
        return all(DenyReason::UnknownPrincipal);
    };
    let (ancestors, whole) = World { bundle, inquiry, directory, resource: principal }.lineage(principal);
    let Matched { certain, undecided } =
        bundle.slices.matched(&bundle.policies, inquiry.action(), principal, (&ancestors, whole));
    let Some(slice) = bundle.slices.slice(&bundle.policies, inquiry.action(), certain) else {
        return all(DenyReason::Unfit);
    };
    let session = Session { bundle, inquiry, directory, slice, undecided };
    session.decide(resources)
}

/// One caller's question with the policies that matter for it.
pub(super) struct Session<'a> {
    pub(super) bundle: &'a Bundle,
    pub(super) inquiry: &'a Inquiry,
    pub(super) directory: &'a Directory,
    pub(super) slice: Arc<Slice>,
    /// Policies whose principal scope cannot be decided.
    pub(super) undecided: Vec<usize>,
}

/// What a look along all paths of the slice found for one resource.
pub(super) struct Survey {
    /// Nothing is missing wherever evaluation may lead.
    complete: bool,
    /// Some policy may look at the resource's own ancestors.
    upward: bool,
}

impl Session<'_> {
    fn decide(&self, resources: &[Entity]) -> Vec<Verdict> {
        let mut needed: HashSet<&EntityUid> = HashSet::new();
        let surveys: Vec<Survey> = resources.iter().map(|r| self.survey(&self.slice.sites, r, &mut needed)).collect();
        let upward = surveys.iter().any(|survey| survey.upward);
        let own: HashSet<&EntityUid> = resources.iter().map(|r| &r.uid).collect();
        // one of them refers to another, or comes twice: together they would see more than alone
        let entangled =
            resources.len() > 1 && (own.len() < resources.len() || own.iter().any(|uid| needed.contains(uid)));
        if entangled {
            return resources.iter().flat_map(|r| self.decide(std::slice::from_ref(r))).collect();
        }
        let Some(entities) = self.entities(resources, &needed, &self.slice.names, upward) else {
            return match resources {
                [_] | [] => vec![Verdict::Deny(DenyReason::Unfit); resources.len()],
                many => many.iter().flat_map(|r| self.decide(std::slice::from_ref(r))).collect(),
            };
        };
        let authorizer = Authorizer::new();
        let pairs = resources.iter().zip(&surveys);
        pairs.map(|(resource, survey)| self.verdict(&authorizer, &entities, resource, survey)).collect()
    }

    pub(super) fn world<'w>(&'w self, resource: &'w Entity) -> World<'w> {
        World { bundle: self.bundle, inquiry: self.inquiry, directory: self.directory, resource }
    }

    /// Walks every path that some policy may take from here, and notes whom Cedar must know.
    pub(super) fn survey<'s>(
        &'s self,
        sites: &'s [Site],
        resource: &'s Entity,
        needed: &mut HashSet<&'s EntityUid>,
    ) -> Survey {
        let world = self.world(resource);
        let (mut complete, mut upward) = (true, false);
        for site in sites {
            for uid in world.reach(&site.path).into_iter().filter_map(|reached| reached.entity()) {
                match world.stored(uid) {
                    Stored::No => complete = false,
                    // another action than the one that is asked for: Cedar must know its groups
                    Stored::BySchema => {
                        if self.bundle.slices.action(uid).is_some() {
                            needed.insert(uid);
                        }
                    }
                    Stored::Yes(entity) => {
                        if entity.uid != resource.uid {
                            needed.insert(&entity.uid);
                        }
                        if site.ancestors {
                            upward |= entity.uid == resource.uid;
                            complete &= world.ancestors(entity, &mut |uid| {
                                upward |= *uid == resource.uid;
                                if *uid != resource.uid {
                                    needed.insert(uid);
                                }
                            });
                        }
                    }
                }
            }
        }
        Survey { complete, upward }
    }

    /// Every entity that these sites may lead to from here, stored or not, and all ancestors that may be looked at.
    pub(super) fn looked_at(&self, sites: &[Site], resource: &Entity) -> HashSet<EntityUid> {
        let world = self.world(resource);
        let mut found = HashSet::new();
        for site in sites {
            for uid in world.reach(&site.path).into_iter().filter_map(|reached| reached.entity()) {
                if *uid != resource.uid {
                    found.insert(uid.clone());
                }
                if let (Stored::Yes(entity), true) = (world.stored(uid), site.ancestors) {
                    world.ancestors(entity, &mut |uid| {
                        found.insert(uid.clone());
                    });
                }
            }
        }
        found
    }

    /// Everything that policies which read `names` can observe of these resources; without their parents unless `upward`. An entity without attributes, tags and parents is
    /// left out: Cedar sees no difference, and `survey` knows that it is there.
    pub(super) fn entities(
        &self,
        resources: &[Entity],
        needed: &HashSet<&EntityUid>,
        names: &HashSet<Arc<str>>,
        upward: bool,
    ) -> Option<Entities> {
        let mut entities = Vec::with_capacity(resources.len() + needed.len() + 1);
        let own_action = self.inquiry.action_uid();
        entities.extend(self.bundle.slices.action(own_action).cloned());
        for resource in resources {
            entities.push(convert::entity_reading(resource, names, upward)?);
        }
        for uid in needed.iter().filter(|uid| **uid != own_action) {
            entities.extend(self.bundle.slices.action(uid).cloned());
            let Some(entity) = self.directory.get(uid) else { continue };
            if !(entity.attrs.is_empty() && entity.tags.is_empty() && entity.parents.is_empty()) {
                entities.push(self.directory.cedar(uid)?.clone());
            }
        }
        Entities::from_entities(entities, None).ok()
    }

    fn verdict(&self, authorizer: &Authorizer, entities: &Entities, resource: &Entity, survey: &Survey) -> Verdict {
        let unfit = Verdict::Deny(DenyReason::Unfit);
        let Some(request) = convert::uid(&resource.uid).and_then(|uid| self.inquiry.request(uid)) else { return unfit };
        let missing = self.missing(&request, entities, resource, survey);
        if !missing.is_empty() {
            return Verdict::Deny(DenyReason::MissingEntity(missing));
        }
        let response = authorizer.is_authorized(&request, &self.slice.set, entities);
        self.told(&response)
    }

    /// The policies whose scope matches, or cannot be decided, and that look at something missing.
    fn missing(&self, request: &Request, entities: &Entities, resource: &Entity, survey: &Survey) -> Vec<PolicyName> {
        if survey.complete && self.undecided.is_empty() {
            return vec![];
        }
        let world = self.world(resource);
        let mut ancestors = HashSet::new();
        let whole = world.ancestors(resource, &mut |uid| ancestors.extend([uid.clone()]));
        let evaluations = Cell::new(0);
        let trace = Trace { world, request, entities, evaluations: &evaluations };
        let mut names = BTreeSet::new();
        let policies = |at: &usize| self.bundle.policies.get(*at);
        for policy in self.undecided.iter().filter_map(policies) {
            if policy.resource.matches(&resource.uid, &ancestors, whole) != Match::No {
                names.insert(policy.name.clone());
            }
        }
        for policy in self.slice.policies.iter().filter_map(policies) {
            let missing = match policy.resource.matches(&resource.uid, &ancestors, whole) {
                Match::No => false,
                Match::Undecided => true,
                Match::Yes => policy.condition.as_ref().is_some_and(|c| trace.truth(c) == Err(Halt::Missing)),
            };
            if missing {
                names.insert(policy.name.clone());
            }
        }
        names.into_iter().collect()
    }

    fn told(&self, response: &Response) -> Verdict {
        let named = |ids: Vec<&cedar_policy::PolicyId>| -> Vec<PolicyName> {
            let names: BTreeSet<PolicyName> =
                ids.into_iter().filter_map(|id| self.bundle.names.get(id).cloned()).collect();
            names.into_iter().collect()
        };
        let diagnostics = response.diagnostics();
        let erred: Vec<_> = diagnostics
            .errors()
            .map(|cedar_policy::AuthorizationError::PolicyEvaluationError(error)| error.policy_id())
            .collect();
        #[cfg(test)]
        let erred = planted(Mutant::ErrorsSkipped, erred, |_| vec![]);
        if !erred.is_empty() && !self.bundle.is_plain() {
            return Verdict::Deny(DenyReason::Erred(named(erred)));
        }
        let reasons = named(diagnostics.reason().collect());
        match response.decision() {
            Decision::Allow => Verdict::Allow { permits: reasons },
            Decision::Deny if reasons.is_empty() => Verdict::Deny(DenyReason::NoPermit),
            Decision::Deny => Verdict::Deny(DenyReason::Forbidden(reasons)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        model::BundleSource,
        policy::samples::{ask, bundle, clinician, directory, record, schema},
    };

    #[test]
    fn an_action_that_a_policy_names_is_in_its_groups_whichever_is_asked_for() {
        let named = r#"@id("p") permit (principal is Clinician, action, resource is Record) when { Action::"Read" in Action::"Anything" };"#;
        let bundle = bundle(named);
        let record = record(&bundle, "1", "p1", "x", &[]);
        assert!(bundle.decide(&ask(&bundle, "nurse"), &record, &directory(&bundle)).is_allow());
    }

    #[test]
    fn an_ancestor_that_the_schema_lists_is_not_missing() {
        let schema =
            schema(r#"entity Grade enum ["high"];"#).replace("Clinician in [Team]", "Clinician in [Team, Grade]");
        let policies = r#"
            @id("all") permit (principal is Clinician, action, resource is Record);
            @id("team") forbid (principal in Team::"t1", action, resource is Record);"#;
        let source = BundleSource { schema, policies: policies.into(), ..Default::default() };
        let bundle = Bundle::compile(&source).unwrap();
        let mut directory = directory(&bundle);
        let mut nurse = clinician(&bundle, "nurse", "nurse", &[]);
        nurse.parents.insert(EntityUid::new("Grade", "high"));
        directory.upsert(nurse);
        let record = record(&bundle, "1", "p1", "x", &[("sensitivity", json!(2))]);
        assert!(bundle.decide(&ask(&bundle, "nurse"), &record, &directory).is_allow());
        assert_eq!(bundle.caps(&ask(&bundle, "nurse"), &directory).permits.len(), 1);
    }
}
