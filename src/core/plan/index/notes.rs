//! What one pass has found in the world, part by part, for the next: a part that is the same value holds the same.
//!
//! Decides: which parts of the world each note was made from, and so when it still stands.
//! Does not: change a plan. A pass without notes makes them first; a test compares the two in whatever world.
//!
//! Most passes see the same pods, claims, machines and nodes as the one before: one lane was freed, a message has come, an hour of some machine began.

use std::sync::Arc;

use super::of_claims::{Books, OfClaims, books};
use super::of_ec2::{OfEc2, SeenInEc2};
use super::of_pods::{OfPods, SeenPods};
use super::rest::Face;
use crate::core::fleet::{Claim, Instance, Node};
use crate::core::snapshot::{Observed, Snapshot, seen};
use crate::core::units::shared::Mark;
use crate::core::workload::Pod;

/// Fewer objects are walked sooner than a second thread has started.
const WORTH_A_THREAD: usize = 4_000;

/// What was noted of a world, and of which of its parts. It holds nothing of that world, and is worth as much as none where everything has changed.
#[derive(Debug, Default)]
pub struct Notes {
    claims: Option<Note<OfClaims>>,
    books: Option<Note<Books>>,
    pods: Option<Note<OfPods>>,
    ec2: Option<Note<OfEc2>>,
}

/// A note, and the parts of the world that it was made from.
#[derive(Debug)]
struct Note<T> {
    from: Parts,
    says: Arc<T>,
}

/// Parts of the world as they were: whole values, and words.
#[derive(Debug, PartialEq)]
struct Parts(Vec<Mark>, Vec<Option<String>>);

impl<T> Note<T> {
    fn still<'n>(note: Option<&'n Note<T>>, parts: &Parts) -> Option<&'n Arc<T>> {
        note.filter(|note| note.from == *parts).map(|note| &note.says)
    }
}

/// The notes of one world, with the objects that they name by their positions.
pub(super) struct Noted<'a> {
    pub(super) claims: Vec<&'a Claim>,
    pub(super) pods: Vec<&'a Pod>,
    pub(super) instances: Vec<&'a Instance>,
    pub(super) nodes: Vec<&'a Node>,
    pub(super) of_claims: Arc<OfClaims>,
    pub(super) books: Arc<Books>,
    pub(super) of_pods: Arc<OfPods>,
    pub(super) of_ec2: Arc<OfEc2>,
}

fn parts_of_claims(world: &Snapshot) -> Parts {
    let defined = world.pools_defined.by().map(|uid| uid.as_str().to_owned());
    Parts(vec![world.claims.mark(), world.pools.mark(), world.catalog.mark()], vec![defined])
}

impl Parts {
    fn and(mut self, marks: impl IntoIterator<Item = Mark>) -> Parts {
        self.0.extend(marks);
        self
    }
}

fn parts_of_ec2(world: &Snapshot) -> Parts {
    let Parts(mut marks, mut words) = parts_of_claims(world).and([world.nodes.mark()]);
    words.push(Some(world.cluster_uid.clone()));
    for look in world.instances.values() {
        // Of a region that was not seen nothing is noted.
        marks.extend(if let Observed::Known { value, .. } = look { Some(value.mark()) } else { None });
    }
    Parts(marks, words)
}

/// Does both, at the same time where there is much to do.
fn both<A: Send, B: Send>(by_two: bool, one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    if !by_two {
        return (one(), other());
    }
    std::thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().unwrap_or_else(|fault| std::panic::resume_unwind(fault)), other)
    })
}

impl Notes {
    /// Brings the notes up to date with `world`: what still stands is not made again.
    pub(super) fn take<'a>(&mut self, world: &'a Snapshot) -> Noted<'a> {
        let parts_of_books = parts_of_claims(world).and([world.reported.mark()]);
        let (parts_of_pods, parts_of_ec2) = (parts_of_claims(world).and([world.pods.mark()]), parts_of_ec2(world));
        let of_claims = Note::still(self.claims.as_ref(), &parts_of_claims(world)).cloned();
        let known_books = Note::still(self.books.as_ref(), &parts_of_books).cloned();
        let of_pods = Note::still(self.pods.as_ref(), &parts_of_pods).cloned();
        let of_ec2 = Note::still(self.ec2.as_ref(), &parts_of_ec2).cloned();
        let (join_pods, join_ec2) = (of_pods.is_none(), of_ec2.is_none());
        let by_two = (join_pods || join_ec2) && world.pods.len() + world.nodes.len() > WORTH_A_THREAD;
        // Each object once, and all that is elsewhere in memory of many of them at a time; then what was seen is put together.
        let (others, own) = both(
            by_two,
            || {
                let pods: Vec<&Pod> = world.pods.values().collect();
                let (instances, nodes): (Vec<&Instance>, Vec<&Node>) = (seen(&world.instances).collect(), world.nodes.values().collect());
                let of_pods = of_pods.ok_or_else(|| SeenPods::of(&pods));
                let of_ec2 = of_ec2.ok_or_else(|| SeenInEc2::of(&world.cluster_uid, &instances, &nodes));
                (pods, instances, nodes, of_pods, of_ec2)
            },
            || {
                let claims: Vec<&Claim> = world.claims.values().collect();
                let Some(of_claims) = of_claims else {
                    let (of_claims, books, faces) = OfClaims::of(world, &claims);
                    return (claims, Arc::new(of_claims), Arc::new(books), faces);
                };
                let books = known_books.unwrap_or_else(|| Arc::new(books(world, &claims, &of_claims.settled)));
                let faces = if join_pods || join_ec2 { claims.iter().map(|claim| Face::of(claim)).collect() } else { Vec::new() };
                (claims, of_claims, books, faces)
            },
        );
        let ((pods, instances, nodes, of_pods, of_ec2), (claims, of_claims, books, faces)) = (others, own);
        let (of_pods, of_ec2) = both(
            by_two && join_pods && join_ec2,
            || of_pods.unwrap_or_else(|seen| Arc::new(OfPods::of(seen, &pods, &of_claims, &faces))),
            || of_ec2.unwrap_or_else(|seen| Arc::new(OfEc2::of(seen, &of_claims, &faces))),
        );
        self.claims = Some(Note { from: parts_of_claims(world), says: Arc::clone(&of_claims) });
        self.books = Some(Note { from: parts_of_books, says: Arc::clone(&books) });
        self.pods = Some(Note { from: parts_of_pods, says: Arc::clone(&of_pods) });
        self.ec2 = Some(Note { from: parts_of_ec2, says: Arc::clone(&of_ec2) });
        Noted { claims, pods, instances, nodes, of_claims, books, of_pods, of_ec2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::plan::tests::toy::{Toy, deployment};
    use crate::core::workload::need::WorkloadKind;

    /// Which notes of the last pass a pass takes: of the claims, of their books, of the pods, of what EC2 shows.
    fn kept(notes: &mut Notes, world: &Snapshot) -> [bool; 4] {
        let before = [
            notes.claims.as_ref().map(|note| Arc::as_ptr(&note.says).addr()),
            notes.books.as_ref().map(|note| Arc::as_ptr(&note.says).addr()),
            notes.pods.as_ref().map(|note| Arc::as_ptr(&note.says).addr()),
            notes.ec2.as_ref().map(|note| Arc::as_ptr(&note.says).addr()),
        ];
        // Held meanwhile, so that no new note comes to the place of an old one.
        let _held = (
            notes.claims.as_ref().map(|note| Arc::clone(&note.says)),
            notes.books.as_ref().map(|note| Arc::clone(&note.says)),
            notes.pods.as_ref().map(|note| Arc::clone(&note.says)),
            notes.ec2.as_ref().map(|note| Arc::clone(&note.says)),
        );
        let noted = notes.take(world);
        let after = [
            Arc::as_ptr(&noted.of_claims).addr(),
            Arc::as_ptr(&noted.books).addr(),
            Arc::as_ptr(&noted.of_pods).addr(),
            Arc::as_ptr(&noted.of_ec2).addr(),
        ];
        std::array::from_fn(|at| before[at] == Some(after[at]))
    }

    #[test]
    fn a_note_stands_as_long_as_what_it_was_made_from() {
        let mut toy = Toy::new();
        (0..3).for_each(|_| drop(toy.add_pod(deployment(), WorkloadKind::Inference)));
        toy.run(150);
        let (world, mut notes) = (&mut toy.world, Notes::default());
        assert_eq!(kept(&mut notes, world), [false; 4], "there were none");
        assert_eq!(kept(&mut notes, world), [true; 4], "nothing has changed");
        assert_eq!(kept(&mut notes, &world.clone()), [true; 4], "a copy shares its parts");
        let uid = world.claims.values().next().unwrap().uid.clone();
        world.reported.of(&uid).hours += 1;
        assert_eq!(kept(&mut notes, world), [true, false, true, true], "an hour has begun");
        world.pods.values_mut().next().unwrap().resource_version = "news".to_owned();
        assert_eq!(kept(&mut notes, world), [true, true, false, true], "a pod was written");
        world.nodes.values_mut().next().unwrap().ready = false;
        assert_eq!(kept(&mut notes, world), [true, true, true, false], "a node was written");
        for look in world.instances.values_mut() {
            *look = Observed::Unknown;
        }
        assert_eq!(kept(&mut notes, world), [true, true, true, false], "regions are not seen");
        world.cluster_uid = "another".to_owned();
        assert_eq!(kept(&mut notes, world), [true, true, true, false], "whose machines are is another question");
        world.pools.values_mut().next().unwrap().deleting = true;
        assert_eq!(kept(&mut notes, world), [false; 4], "what the claims say is read with their pools");
        world.pools_defined = crate::core::fleet::PoolsDefined::Going;
        assert_eq!(kept(&mut notes, world), [false; 4], "pools are not defined");
        world.claims.values_mut().next().unwrap().deleting = true;
        assert_eq!(kept(&mut notes, world), [false; 4], "positions are those of the claims");
        world.notices.clear();
        world.in_flight.clear();
        assert_eq!(kept(&mut notes, world), [true; 4], "what they were not made from");
    }
}
