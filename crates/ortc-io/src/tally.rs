use std::sync::{Arc, Mutex, PoisonError};

/// What somebody counts on one thread, as others may read it: the newest copy of the counters.
///
/// Clones are the same. It is for the control plane: setting and reading take a lock for a moment.
///
/// ```
/// use ortc_io::Tally;
///
/// let tally = Tally::<u32>::default();
/// let reader = tally.clone();
/// tally.set(3);
/// assert_eq!(reader.read(), 3);
/// ```
#[derive(Debug, Default)]
pub struct Tally<T>(Arc<Mutex<T>>);

impl<T: Copy> Tally<T> {
    /// The counters as they were set last, at first their defaults.
    pub fn read(&self) -> T {
        // A copy is whole, whoever has panicked.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has readers see these from now on.
    pub fn set(&self, counters: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }
}

impl<T> Clone for Tally<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Whether both are the same, and not whether they count alike.
impl<T> PartialEq for Tally<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for Tally<T> {}
