// SPDX-License-Identifier: GPL-2.0-only
//! Slab arenas with generations, and the small sorted maps that hold sparse tables.
//!
//! An id is an index and a generation, in one word that is never 0; freeing a slot raises its generation, so an id kept too long is noticed when it is
//! used, which a kernel pointer would not be. A new object always takes the *lowest* free slot: two kernels with the same
//! history are then equal field by field, also after a round trip through serde (the `slab` crate gives its most recently
//! freed slot first and forgets that order when it is serialised, which is why it is not used for state).

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::num::NonZeroU16;

/// An index into an [`Arena`], with the generation it was made in.
pub trait ArenaId: Copy {
    /// Build an id.
    fn from_parts(idx: u16, generation: NonZeroU16) -> Self;
    /// The slot.
    fn idx(self) -> usize;
    /// The generation the slot had when the id was made.
    fn generation(self) -> u16;
    /// Both in one word.
    fn bits(self) -> u32;
}

/// Declare an id type: `define_id!(/// doc VmaId "vma")`.
#[macro_export]
macro_rules! define_id {
    ($(#[$doc:meta])* $name:ident $short:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub struct $name(std::num::NonZeroU32);
        impl $crate::arena::ArenaId for $name {
            #[inline] fn from_parts(idx: u16, generation: std::num::NonZeroU16) -> Self {
                $name(std::num::NonZeroU32::from(generation) | (idx as u32) << 16)
            }
            #[inline] fn idx(self) -> usize { (self.0.get() >> 16) as usize }
            #[inline] fn generation(self) -> u16 { self.0.get() as u16 }
            #[inline] fn bits(self) -> u32 { self.0.get() }
        }
        impl $name {
            /// An id that never names a live object; for fields that are filled in right after.
            pub const DANGLING: $name = $name(std::num::NonZeroU32::MAX);
            /// The slot number: what a report prints.
            pub fn number(self) -> u16 { (self.0.get() >> 16) as u16 }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, concat!($short, "{}"), self.number()) }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, concat!($short, "{}"), self.number()) }
        }
    };
}

/// Nobody has an id with the generation of a slot that is not live, so the generation is all that a lookup has to compare.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Slot<T> {
    generation: NonZeroU16,
    live: bool,
    /// The default if not live.
    value: T,
}

/// Objects of one kind. See the module text for what it promises.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arena<I, T> {
    slots: Vec<Slot<T>>,
    live: u16,
    #[serde(skip, default)]
    tomb: T,
    #[serde(skip)]
    ids: PhantomData<fn() -> I>,
}

impl<I, T: PartialEq> PartialEq for Arena<I, T> {
    fn eq(&self, other: &Self) -> bool {
        self.slots == other.slots
    }
}
impl<I, T: Eq> Eq for Arena<I, T> {}
impl<I, T: Hash> Hash for Arena<I, T> {
    fn hash<H: Hasher>(&self, h: &mut H) {
        self.slots.hash(h);
    }
}

impl<I, T: Default> Default for Arena<I, T> {
    fn default() -> Self {
        Arena { slots: Vec::new(), live: 0, tomb: T::default(), ids: PhantomData }
    }
}

impl<I: ArenaId, T: Default> Arena<I, T> {
    /// Put `value` into the lowest free slot.
    pub fn insert(&mut self, value: T) -> I {
        self.live += 1;
        let idx = if self.live as usize > self.slots.len() {
            self.slots.push(Slot { generation: NonZeroU16::MIN, live: true, value });
            self.slots.len() - 1
        } else {
            let idx = self.slots.iter().position(|s| !s.live).expect("live count says that a slot is free");
            self.slots[idx].live = true;
            self.slots[idx].value = value;
            idx
        };
        I::from_parts(idx as u16, self.slots[idx].generation)
    }

    /// Take the object out; its id and every copy of it become stale.
    pub fn remove(&mut self, id: I) -> Option<T> {
        let slot = self.slots.get_mut(id.idx())?;
        if slot.generation.get() != id.generation() {
            return None;
        }
        let value = std::mem::take(&mut slot.value);
        slot.live = false;
        slot.generation = slot.generation.checked_add(1).unwrap_or(NonZeroU16::MIN);
        self.live -= 1;
        Some(value)
    }

    /// The object, or None when the id is stale.
    #[inline]
    pub fn get(&self, id: I) -> Option<&T> {
        let slot = self.slots.get(id.idx())?;
        if slot.generation.get() != id.generation() { None } else { Some(&slot.value) }
    }

    /// The object for writing, or None when the id is stale.
    #[inline]
    pub fn get_mut(&mut self, id: I) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.idx())?;
        if slot.generation.get() != id.generation() { None } else { Some(&mut slot.value) }
    }

    /// The object that stands in for a stale one, after the use has been reported.
    pub fn tomb(&self) -> &T {
        &self.tomb
    }

    /// As [`tomb`](Arena::tomb); writes to it are lost.
    pub fn tomb_mut(&mut self) -> &mut T {
        &mut self.tomb
    }

    /// Live objects in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (I, &T)> + '_ {
        let live = self.slots.iter().enumerate().filter(|(_, s)| s.live);
        live.map(|(i, s)| (I::from_parts(i as u16, s.generation), &s.value))
    }

    /// How many objects are live.
    pub fn len(&self) -> usize {
        self.live as usize
    }

    /// No object is live.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }
}

/// A small map sorted by key: page tables, page caches. Absent keys are the kernel's empty slots.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Sparse<V: Copy>(SmallVec<[(u32, V); 4]>);

impl<V: Copy> Default for Sparse<V> {
    fn default() -> Self {
        Sparse(SmallVec::new())
    }
}

impl<V: Copy> Sparse<V> {
    /// Most keys stand next to each other: the first guess is the place that `key` has if no key before it is missing.
    #[inline]
    fn find(&self, key: u32) -> Result<usize, usize> {
        let entries = self.0.as_slice();
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Err(0) };
        if key > last.0 {
            return Err(entries.len());
        }
        let guess = key.wrapping_sub(first.0) as usize;
        match entries.get(guess) {
            Some(e) if e.0 == key => Ok(guess),
            _ => entries.binary_search_by_key(&key, |e| e.0),
        }
    }

    /// The value at `key`.
    #[inline]
    pub fn get(&self, key: u32) -> Option<V> {
        self.find(key).ok().map(|i| self.0[i].1)
    }

    /// Store a value, or remove with None. Returns what was there.
    #[inline]
    pub fn set(&mut self, key: u32, value: Option<V>) -> Option<V> {
        if let Some(v) = value
            && self.0.last().is_none_or(|last| last.0 < key)
        {
            self.0.push((key, v));
            return None;
        }
        match (self.find(key), value) {
            (Ok(i), Some(v)) => Some(std::mem::replace(&mut self.0[i].1, v)),
            (Ok(i), None) => Some(self.0.remove(i).1),
            (Err(i), Some(v)) => {
                self.0.insert(i, (key, v));
                None
            }
            (Err(_), None) => None,
        }
    }

    /// Entries in key order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, V)> + '_ {
        self.0.iter().copied()
    }

    /// The first entry at or after `key`.
    pub fn next_from(&self, key: u32) -> Option<(u32, V)> {
        match self.find(key) {
            Ok(i) => Some(self.0[i]),
            Err(i) => self.0.get(i).copied(),
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
