//! TLS handshakes in progress on one listener and worker: no more than `handshakes_max`, the latest of
//! them.
//!
//! A client that means it is done within milliseconds. So of too many the one that has waited longest
//! goes, and whoever holds handshakes open displaces its own first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use tokio::sync::Notify;

/// The handshakes in progress, the oldest first.
#[derive(Default)]
pub(super) struct Handshakes(RefCell<VecDeque<Rc<Place>>>);

#[derive(Default)]
struct Place {
    lost: Cell<bool>,
    told: Notify,
}

/// A handshake in progress, until it is dropped.
pub(super) struct Handshake<'h> {
    all: &'h Handshakes,
    place: Rc<Place>,
}

impl Handshakes {
    /// One more. Of more than `max` the oldest has to go.
    pub(super) fn begin(&self, max: usize) -> Handshake<'_> {
        let place = Rc::<Place>::default();
        let mut places = self.0.borrow_mut();
        places.push_back(place.clone());
        while places.len() > max {
            if let Some(oldest) = places.pop_front() {
                oldest.lost.set(true);
                oldest.told.notify_one();
            }
        }
        Handshake { all: self, place }
    }
}

impl Handshake<'_> {
    /// Waits until this one has to go.
    pub(super) async fn crowded_out(&self) {
        while !self.place.lost.get() {
            self.place.told.notified().await;
        }
    }
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        if !self.place.lost.get() {
            self.all.0.borrow_mut().retain(|place| !Rc::ptr_eq(place, &self.place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(handshake: &Handshake<'_>) -> bool {
        handshake.place.lost.get()
    }

    #[test]
    fn of_too_many_the_oldest_goes() {
        let handshakes = Handshakes::default();
        let first = handshakes.begin(2);
        let second = handshakes.begin(2);
        assert!(!lost(&first) && !lost(&second));
        let third = handshakes.begin(2);
        assert!(lost(&first) && !lost(&second) && !lost(&third));
    }

    #[test]
    fn one_that_is_done_makes_room() {
        let handshakes = Handshakes::default();
        let first = handshakes.begin(2);
        drop(handshakes.begin(2));
        let third = handshakes.begin(2);
        assert!(!lost(&first) && !lost(&third));
        assert_eq!(handshakes.0.borrow().len(), 2);
    }

    #[tokio::test]
    async fn the_one_that_goes_is_told() {
        let handshakes = Handshakes::default();
        let first = handshakes.begin(1);
        let (_second, ()) = tokio::join!(async { handshakes.begin(1) }, first.crowded_out());
    }
}
