//! What somebody may see, as RBAC says it.
//!
//! Decides: which rights open what: `list pods` in a namespace opens its pods, moves, decisions and money; `list gpunodeclaims.lowtide.dev` opens the
//! machines; `get ledger.lowtide.dev`, a resource that exists for this alone, opens all that the ledger has.
//! Does not: grant anything: SubjectAccessReview answers.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;

use super::identity::{Gate, Person, Refused, keep, kept};
use crate::core::units::time::Timestamp;
use crate::kube::errors::call;
use crate::ledger::report::{By, Only};
use crate::ports::ClusterError;

/// Namespaces that are asked about at once.
const AT_ONCE: usize = 16;

/// Which namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    Namespaces(BTreeSet<String>),
}

impl Scope {
    pub fn holds(&self, namespace: &str) -> bool {
        match self {
            Scope::All => true,
            Scope::Namespaces(some) => some.contains(namespace),
        }
    }

    /// As the ledger's reports are narrowed. No namespace is none of them, and not all.
    pub fn only(&self) -> Vec<Only> {
        match self {
            Scope::All => Vec::new(),
            Scope::Namespaces(some) if some.is_empty() => vec![Only::new(By::Namespace, "")],
            Scope::Namespaces(some) => some.iter().map(|namespace| Only::new(By::Namespace, namespace.as_str())).collect(),
        }
    }

    /// As statements are narrowed: NULL is all of them.
    pub fn listed(&self) -> Option<String> {
        match self {
            Scope::All => None,
            Scope::Namespaces(some) => Some(some.iter().map(String::as_str).collect::<Vec<_>>().join(",")),
        }
    }
}

/// What somebody may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Pods, moves, decisions and money of these.
    pub scope: Scope,
    /// All machines; else those that hold one of these pods.
    pub machines: bool,
    /// All of the ledger.
    pub finance: bool,
}

impl Rights {
    pub fn see_nothing(&self) -> bool {
        !self.machines && !self.finance && self.scope == Scope::Namespaces(BTreeSet::new())
    }

    /// For pages that show what cannot be split by namespace.
    pub fn must_be_finance(&self, person: &Person) -> Result<(), Refused> {
        if self.finance { Ok(()) } else { Err(Refused::NotThis(person.name.clone(), "get ledger.lowtide.dev in the whole cluster")) }
    }
}

impl Gate {
    /// What they may see; of the `namespaces` that there are, each is asked about.
    pub(super) async fn rights_of(
        &self,
        person: &Person,
        namespaces: impl Fn() -> Vec<String>,
        now: Timestamp,
    ) -> Result<Rights, ClusterError> {
        if let Some(rights) = kept(&self.rights, person, now) {
            return Ok(rights);
        }
        let finance = self.may(person, ("get", "lowtide.dev", "ledger"), None).await?;
        let machines = finance || self.may(person, ("list", "lowtide.dev", "gpunodeclaims"), None).await?;
        let pods = ("list", "", "pods");
        let scope = if finance || self.may(person, pods, None).await? {
            Scope::All
        } else {
            let asked = futures::stream::iter(namespaces().into_iter().map(|namespace| async move {
                let may = self.may(person, pods, Some(&namespace)).await?;
                Ok::<_, ClusterError>(may.then_some(namespace))
            }));
            let found: Vec<Option<String>> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
            Scope::Namespaces(found.into_iter().flatten().collect())
        };
        let rights = Rights { scope, machines, finance };
        keep(&self.rights, person.clone(), rights.clone(), now);
        Ok(rights)
    }

    async fn may(
        &self,
        person: &Person,
        (verb, group, resource): (&str, &str, &str),
        namespace: Option<&str>,
    ) -> Result<bool, ClusterError> {
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            namespace: namespace.map(str::to_owned),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(person.name.clone()),
            uid: person.uid.clone(),
            groups: Some(person.groups.clone()),
            extra: Some(person.extra.clone()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer =
            call(format!("ask whether {} may {verb} {resource}", person.name), api.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_namespace_is_not_all_of_them() {
        let nothing = Scope::Namespaces(BTreeSet::new());
        assert_eq!((nothing.listed(), nothing.only().len()), (Some(String::new()), 1));
        assert_eq!((Scope::All.listed(), Scope::All.only().len()), (None, 0));
        let some = Scope::Namespaces(["a".to_owned(), "b".to_owned()].into());
        assert_eq!((some.listed().as_deref(), some.only().len()), (Some("a,b"), 2));
        assert!(some.holds("a") && !some.holds("c"));
    }
}
