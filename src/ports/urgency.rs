//! Which requests to the cluster go first where more are to be made than it answers at once: those that save work from a machine that is about to end.
//!
//! Decides: nothing; the plan says which step is a rescue (field `rescue` of [`crate::core::action::Step`]), and adapters ask here whose request they carry.

use std::future::Future;

tokio::task_local! {
    static RESCUE: ();
}

/// Does `work`; what it asks of the cluster goes first if it is a rescue.
pub async fn of<F: Future>(rescue: bool, work: F) -> F::Output {
    if rescue { RESCUE.scope((), work).await } else { work.await }
}

/// Whether what is being done is a rescue.
pub fn is_rescue() -> bool {
    RESCUE.try_with(|()| ()).is_ok()
}
