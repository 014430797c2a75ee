//! Regions that are to be looked at before their turn, because something was done or is said to have happened there.
//!
//! Decides: that a look which is asked for while another one is under way comes after it, and that many wishes are one look.
//! Does not: look.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::core::units::ids::Region;

/// Looks that are due, region by region: a machine that starts in one region is no reason to ask EC2 about the others.
#[derive(Debug, Default)]
pub struct LooksDue(Mutex<BTreeMap<Region, Arc<Notify>>>);

impl LooksDue {
    fn of(&self, region: &Region) -> Arc<Notify> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(region.clone()).or_default())
    }

    /// Asks for a look at this region.
    pub fn ask(&self, region: &Region) {
        self.of(region).notify_one();
    }

    /// Waits until a look at this region is due; at once if it was asked for since the last one was begun.
    pub async fn due(&self, region: &Region) {
        self.of(region).notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn is_due(looks: &LooksDue, region: &Region) -> bool {
        tokio::time::timeout(Duration::from_millis(1), looks.due(region)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_for_is_due_once_in_its_region_alone_however_early_it_was() {
        let (looks, [here, there]) = (LooksDue::default(), ["us-east-1", "eu-west-1"].map(Region::from));
        assert!(!is_due(&looks, &here).await);
        // Nobody waits: as while the region is being looked at.
        looks.ask(&here);
        looks.ask(&here);
        assert!(!is_due(&looks, &there).await);
        assert!(is_due(&looks, &here).await);
        assert!(!is_due(&looks, &here).await, "once");
    }
}
