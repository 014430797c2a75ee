//! Judgements that decisions of one pass share: equal pods on equal machines have beaten the same offers.
//!
//! Decides: nothing; what is equal is judged once and handed on, so that a decision costs no look at the whole market.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::reporting::wording;
use crate::core::market::Capacity;
use crate::core::placement::{self, Demand, PlacementRequest, PoolPolicy};
use crate::core::record::{Counterfactuals, JudgedOffer, Judgement};
use crate::core::units::ids::{PoolName, Region};
use crate::core::units::shared::Shared;
use crate::core::workload::need::Need;

/// A need, the node pool whose policy holds, what was chosen, and where the set of offers that a deadline or a spread leaves stands in memory:
/// pods of one verdict share it.
type Question<'p> = (&'p Need, PoolName, Capacity, usize);

/// What equal decisions to buy share.
#[derive(Clone)]
pub(in crate::core::plan) struct Bought {
    /// The offers that the chosen one beat.
    pub(in crate::core::plan) judgement: Shared<Judgement>,
    /// What would have been paid otherwise.
    pub(in crate::core::plan) otherwise: Shared<Counterfactuals>,
    /// The choice in words.
    pub(in crate::core::plan) text: Arc<str>,
}

/// What has been judged in this pass.
#[derive(Default)]
pub(in crate::core::plan) struct Judged<'p> {
    bought: BTreeMap<(Question<'p>, Option<&'p str>), Bought>,
    best: BTreeMap<(&'p Need, PoolName), Judgement>,
    otherwise: BTreeMap<(&'p Need, Capacity, Region), Shared<Counterfactuals>>,
}

impl<'p> Judged<'p> {
    /// A machine in `chosen` is bought for `demand`, and `why` beside its price.
    pub(in crate::core::plan) fn bought(
        &mut self,
        request: &PlacementRequest,
        (demand, why): (&'p Demand, Option<&'p str>),
        (policy, home): (&PoolPolicy, &Region),
        chosen: &Capacity,
    ) -> Bought {
        let left = demand.buy_only.as_ref().map_or(0, |offers| std::sync::Arc::as_ptr(offers) as usize);
        let key = ((&*demand.need, policy.name.clone(), chosen.clone(), left), why);
        if let Some(known) = self.bought.get(&key) {
            return known.clone();
        }
        let judgement = placement::judge_demand(request, demand, policy, Some(chosen));
        let taken = judgement.chosen.as_ref().map(|chosen| chosen.capacity.clone());
        let otherwise = taken.map(|chosen| self.counterfactuals(request, &demand.need, &chosen, home)).unwrap_or_default();
        let text = wording::placed(&judgement);
        let text = why.map(|why| format!("{text}; {why}")).unwrap_or(text).into();
        let made = Bought { judgement: Shared::from(judgement), otherwise, text };
        self.bought.insert(key, made.clone());
        made
    }

    /// Room that is paid for is used: the offers that would have been bought.
    pub(in crate::core::plan) fn onto_room(
        &mut self,
        request: &PlacementRequest,
        need: &'p Need,
        policy: &PoolPolicy,
        room: JudgedOffer,
    ) -> Shared<Judgement> {
        let best = self.best.entry((need, policy.name.clone())).or_insert_with(|| placement::judge(request, need, policy));
        Shared::from(Judgement { chosen: Some(room), ..best.clone() })
    }

    /// B0, B1 and B2 of a need on `chosen`.
    pub(in crate::core::plan) fn counterfactuals(
        &mut self,
        request: &PlacementRequest,
        need: &'p Need,
        chosen: &Capacity,
        home: &Region,
    ) -> Shared<Counterfactuals> {
        let make = || Shared::from(placement::counterfactuals(request.catalog, request.market, need, chosen, home));
        self.otherwise.entry((need, chosen.clone(), home.clone())).or_insert_with(make).clone()
    }
}
