// SPDX-License-Identifier: GPL-2.0-only
//! Swap, and that nothing of it stays behind.

/// A placeholder until swap is arranged.
pub struct Guard;
