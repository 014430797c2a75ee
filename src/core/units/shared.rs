//! A value that is cheap to pass on and copied only when a holder changes its own.
//!
//! Decides: nothing. A pass reads the world without copying it, and a test changes it as if it were its own.

use std::any::Any;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};

use serde::{Deserialize, Serialize};

/// A shared value with a copy made on the first change: [`Arc::make_mut`] behind `&mut`.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shared<T>(Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(Arc::clone(&self.0))
    }
}

impl<T: fmt::Display> fmt::Display for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Shared(Arc::new(value))
    }
}

/// A value as it was at some moment, to tell later whether it is unchanged. Unlike a copy, it does not force whoever changes the value to
/// copy it.
#[derive(Debug)]
pub struct Mark(Weak<dyn Any + Send + Sync>);

/// Marks of one value, unchanged in between: no other can come to its address while either exists.
impl PartialEq for Mark {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self.0.as_ptr(), other.0.as_ptr())
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// A mark of the value as it is now.
    pub fn mark(&self) -> Mark {
        let weak: Weak<T> = Arc::downgrade(&self.0);
        Mark(weak)
    }

    /// Whether this is the value of `mark`, unchanged: a change moves it, and its address is not reused while the mark exists.
    pub fn is(&self, mark: &Mark) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.0), mark.0.as_ptr())
    }
}

impl<T> Shared<T> {
    /// Nobody else holds it.
    pub fn is_held_once(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl<T: Clone> Shared<T> {
    /// The value itself; copied if others hold it too.
    pub fn into_inner(self) -> T {
        Arc::unwrap_or_clone(self.0)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T: FromIterator<I>, I> FromIterator<I> for Shared<T> {
    fn from_iter<S: IntoIterator<Item = I>>(items: S) -> Self {
        Shared::from(T::from_iter(items))
    }
}

impl<'a, T> IntoIterator for &'a Shared<T>
where
    &'a T: IntoIterator,
{
    type Item = <&'a T as IntoIterator>::Item;
    type IntoIter = <&'a T as IntoIterator>::IntoIter;
    fn into_iter(self) -> Self::IntoIter {
        (&*self.0).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use crate::core::units::shared::*;

    #[test]
    fn a_change_is_seen_by_its_maker_alone() {
        let first = Shared::from(vec![1]);
        let mut second = first.clone();
        second.push(2);
        assert_eq!((first.len(), second.len()), (1, 2));
    }

    #[test]
    fn a_mark_stands_for_a_value_until_it_is_changed_and_copies_nothing() {
        let mut value = Shared::from(vec![1]);
        let (copy, mark) = (value.clone(), value.mark());
        assert!(mark == copy.mark() && mark != Shared::from(vec![1]).mark());
        assert!(value.is(&mark) && copy.is(&mark) && !Shared::from(vec![1]).is(&mark));
        drop(copy);
        value.push(2);
        assert!(!value.is(&mark) && value.mark() != mark, "changed");
        value.pop();
        assert!(!value.is(&mark), "changed back is changed");
        let mut alone = Shared::from(vec![3]);
        let (_mark, place) = (alone.mark(), alone.as_ptr());
        alone[0] = 4;
        assert_eq!(alone.as_ptr(), place, "the only holder changes its own, marked or not");
    }
}
