use ortc_io::{ConnectionId, prefetch, prefetch_front};

/// Connections by slot. Of each slot, only a later generation is ever let in again.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    limit: usize,
    len: usize,
}

#[derive(Debug)]
#[repr(C)]
struct Slot<T> {
    /// The next generation that may use the slot.
    next: u64,
    value: Option<T>,
}

/// What became of a connection that wanted into its slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry<T> {
    /// It is in; whatever an older generation had left is handed back.
    Admitted(Option<T>),
    /// Its generation, or a later one, has been here.
    Stale,
    /// The slot is beyond the limit.
    Refused,
}

impl<T> Slots<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { slots: Vec::new(), limit, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn admit(&mut self, id: ConnectionId, value: T) -> Entry<T> {
        let index = id.slot as usize;
        if index >= self.limit {
            return Entry::Refused;
        }
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || Slot { next: 0, value: None });
        }
        let slot = &mut self.slots[index];
        if u64::from(id.generation) < slot.next {
            return Entry::Stale;
        }
        slot.next = u64::from(id.generation) + 1;
        let previous = slot.value.replace(value);
        self.len += usize::from(previous.is_none());
        Entry::Admitted(previous)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.next != u64::from(id.generation) + 1 {
            return None;
        }
        slot.value.as_mut()
    }

    /// Has the processor fetch a slot.
    pub(crate) fn prefetch(&self, slot: u32) {
        if let Some(slot) = self.slots.get(slot as usize) {
            prefetch(slot);
        }
    }

    /// Has the processor fetch the front of a slot, with that of what is in it.
    pub(crate) fn prefetch_front(&self, slot: u32, len: usize) {
        if let Some(slot) = self.slots.get(slot as usize) {
            prefetch_front(slot, size_of::<u64>() + len);
        }
    }

    /// Whatever generation is in a slot.
    pub(crate) fn at(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.value.as_ref()
    }

    /// As [`at`](Self::at).
    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.value.as_mut()
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<T> {
        self.get_mut(id)?;
        let value = self.slots[id.slot as usize].value.take();
        self.len -= usize::from(value.is_some());
        value
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.value.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32, generation: u32) -> ConnectionId {
        ConnectionId { slot, generation }
    }

    #[test]
    fn a_generation_is_let_in_once_and_never_after_a_later_one() {
        let mut slots = Slots::new(4);
        assert_eq!(slots.admit(id(3, 5), 'a'), Entry::Admitted(None));
        assert_eq!(slots.admit(id(3, 5), 'b'), Entry::Stale);
        assert_eq!(slots.admit(id(3, 4), 'c'), Entry::Stale);
        assert_eq!(slots.admit(id(4, 0), 'd'), Entry::Refused);
        assert_eq!(slots.get_mut(id(3, 4)), None);
        assert_eq!(slots.remove(id(3, 5)), Some('a'));
        assert_eq!(slots.admit(id(3, 5), 'e'), Entry::Stale);
        assert_eq!(slots.admit(id(3, u32::MAX), 'f'), Entry::Admitted(None));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn a_later_generation_throws_the_earlier_out() {
        let mut slots = Slots::new(1);
        assert_eq!(slots.admit(id(0, 0), 'a'), Entry::Admitted(None));
        assert_eq!(slots.admit(id(0, 1), 'b'), Entry::Admitted(Some('a')));
        assert_eq!((slots.len(), slots.get_mut(id(0, 0))), (1, None));
    }
}
