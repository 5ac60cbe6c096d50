// SPDX-License-Identifier: GPL-2.0-only
//! Bytes of the reference memory. After operations that overlapped, a byte may have one of several values.

use crate::kernel::{CELLS, Cells};

/// The values that a byte may have: up to three, or any.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Values {
    n: u8,
    v: [u8; 3],
}

const ANY: u8 = u8::MAX;

impl Values {
    /// Exactly this one.
    pub const fn one(byte: u8) -> Values {
        Values { n: 1, v: [byte, 0, 0] }
    }
    /// No promise.
    pub const fn any() -> Values {
        Values { n: ANY, v: [0; 3] }
    }
    /// May the byte be this?
    pub fn has(&self, byte: u8) -> bool {
        self.n == ANY || self.v[..self.n as usize].contains(&byte)
    }
    /// Is it known to be this?
    pub fn is(&self, byte: u8) -> bool {
        self.n == 1 && self.v[0] == byte
    }
    /// Is there only one possibility?
    pub fn is_one(&self) -> bool {
        self.n == 1
    }
    /// One possibility more.
    pub fn add(&mut self, byte: u8) {
        if !self.has(byte) {
            if self.n as usize == self.v.len() {
                *self = Values::any();
            } else {
                self.v[self.n as usize] = byte;
                self.n += 1;
            }
        }
    }
    /// Either of the two.
    pub fn join(&mut self, other: Values) {
        if other.n == ANY {
            *self = other;
        } else {
            for &b in &other.v[..other.n as usize] {
                self.add(b);
            }
        }
    }
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.n == ANY {
            return f.write_str("??");
        }
        for (i, b) in self.v[..self.n as usize].iter().enumerate() {
            if i > 0 {
                f.write_str("|")?;
            }
            write!(f, "{b:02x}")?;
        }
        Ok(())
    }
}

/// How a write is known to stand to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sure {
    /// It happened, after all that was reported before.
    Yes,
    /// It happened, before or after the others of this group of overlapping operations.
    Overlapped(u32),
    /// It may have happened.
    Perhaps,
}

/// The watched bytes of a page in the reference memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RefCells {
    /// What they may be now.
    pub now: [Values; CELLS],
    /// What they may have been before the group of overlapping operations that wrote them last.
    pub before: [Values; CELLS],
    /// That group.
    pub group: u32,
    /// Which bytes it wrote.
    written: u8,
}

impl RefCells {
    /// All zero.
    pub const ZERO: RefCells = RefCells::known([0; CELLS]);

    const fn known(bytes: [u8; CELLS]) -> RefCells {
        let now = [Values::one(bytes[0]), Values::one(bytes[1]), Values::one(bytes[2]), Values::one(bytes[3])];
        RefCells { now, before: now, group: 0, written: 0 }
    }

    /// What was seen in the kernel.
    pub fn seen(cells: &Cells) -> RefCells {
        RefCells::known(cells.map(|c| c.byte()))
    }

    /// Store to a byte.
    pub fn set(&mut self, i: usize, to: Values, sure: Sure) {
        match sure {
            Sure::Yes => {
                self.now[i] = to;
                self.before[i] = to;
            }
            Sure::Overlapped(group) => {
                if self.group != group {
                    self.before = self.now;
                    self.group = group;
                    self.written = 0;
                }
                if self.written & 1 << i == 0 {
                    self.written |= 1 << i;
                    self.now[i] = to;
                } else {
                    self.now[i].join(to);
                }
            }
            Sure::Perhaps => {
                self.now[i].join(to);
                self.before[i].join(to);
            }
        }
    }

    /// Either of the two.
    pub fn join(&mut self, other: &RefCells) {
        for i in 0..CELLS {
            self.now[i].join(other.now[i]);
            self.before[i].join(other.before[i]);
        }
    }

    /// Every byte may be what the kernel shows.
    pub fn admits(&self, cells: &Cells) -> bool {
        self.now.iter().zip(cells).all(|(v, c)| v.has(c.byte()))
    }

    /// Zero for certain.
    pub fn is_zero(&self) -> bool {
        self.now.iter().all(|v| v.is(0))
    }

    /// Now that the kernel shows them, they are known.
    pub fn settle(&mut self, cells: &Cells) {
        if !self.now.iter().all(Values::is_one) || self.now != self.before {
            *self = RefCells::seen(cells);
        }
    }
}
