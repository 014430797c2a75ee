//! How many requests are on their way to the API server at once, and whose goes first.
//!
//! Decides: the bounds. A rescue never waits behind purchases, events and records that are being removed: it has turns of its own. An API server that is asked
//! for more than it can answer answers everything late (with 110 requests a second on two shared cores after ten seconds; docs/placement.md, "What a thousand
//! machines cost"), so that what is beyond the bound waits here, where a rescue can overtake it, and not there.
//! Does not: count watches, or what keeps the lease, which must wait for nobody.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::ports::urgency;

/// Requests at once of everything that is no rescue. With answers after 10 ms, as an API server gives that has little to do, these are 3,200 a second.
const OTHERS: usize = 32;
/// ... and of rescues.
const RESCUES: usize = 32;

/// Who may ask now.
#[derive(Debug)]
pub(super) struct Turns {
    rescues: Semaphore,
    others: Semaphore,
}

/// The turns of this process: it has one API server.
pub(super) static TURNS: Turns = Turns::of(RESCUES, OTHERS);

impl Turns {
    const fn of(rescues: usize, others: usize) -> Turns {
        Turns { rescues: Semaphore::const_new(rescues), others: Semaphore::const_new(others) }
    }

    /// Waits for a turn, first come first served among rescues and among the others; it ends when the result is dropped. `None` does not happen: nobody closes
    /// them.
    pub(super) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        let turns = if urgency::is_rescue() { &self.rescues } else { &self.others };
        turns.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_rescue_overtakes_all_that_waits_and_the_others_come_one_after_another() {
        static OF_TWO: Turns = Turns::of(1, 2);
        let began = tokio::time::Instant::now();
        let ask = || async move {
            let _turn = OF_TWO.take().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            began.elapsed().as_secs()
        };
        let others: Vec<_> = (0..10).map(|_| tokio::spawn(ask())).collect();
        tokio::task::yield_now().await;
        assert_eq!(urgency::of(true, ask()).await, 1, "a rescue waits for none of them");
        let mut after = Vec::new();
        for other in others {
            after.push(other.await.unwrap());
        }
        after.sort_unstable();
        assert_eq!(after, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
    }
}
