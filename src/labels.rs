// SPDX-License-Identifier: GPL-2.0-only
//! C idioms that Rust has no word for, each with its C twin.

/// A `goto` ladder.
///
/// ```c
///         body; goto out_release;
///         return 0;
/// out_release:
///         unlock_page(page);
/// out:
///         return ret;
/// ```
/// is written
/// ```text
/// ladder! {
///     { body; break 'out_release; return Ok(()); }
///     'out_release: { unlock_page(k, page); }
///     'out: { ret }
/// }
/// ```
/// `break 'label` is `goto label`; a label's block falls through into the next one; the last one gives the value.
#[macro_export]
macro_rules! ladder {
    (@fold { $($inner:tt)* }) => {{ $($inner)* }};
    (@fold { $($inner:tt)* } $label:lifetime : { $($clean:tt)* } $($rest:tt)*) => {
        $crate::ladder!(@fold { $label: { $($inner)* } $($clean)* } $($rest)*)
    };
    ({ $($body:tt)* } $label:lifetime : { $($clean:tt)* } $($rest:tt)*) => {
        $crate::ladder!(@fold { $label: { $($body)* } $($clean)* } $($rest)*)
    };
}

/// `VM_BUG_ON(cond)`: a debug kernel stops here. The model reports it and goes on, as a kernel without `CONFIG_DEBUG_VM` does.
#[macro_export]
macro_rules! VM_BUG_ON {
    ($k:expr, $cond:expr) => {
        if $cond {
            $k.report($crate::event::Symptom::VmBugOn, || format!("VM_BUG_ON({}) at {}:{}", stringify!($cond), file!(), line!()));
        }
    };
}

/// `BUG_ON(cond)`: the task dies where it stands, with every lock it holds. Use as `BUG_ON!(k, cond)` in an async function.
#[macro_export]
macro_rules! BUG_ON {
    ($k:expr, $cond:expr) => {
        if $cond {
            $k.report($crate::event::Symptom::BugOn, || format!("BUG_ON({}) at {}:{}", stringify!($cond), file!(), line!()));
            $crate::point::die($k).await;
        }
    };
}

/// `WARN_ON_ONCE(cond)`: prints a call trace the first time; has the value of `cond`.
#[macro_export]
macro_rules! WARN_ON_ONCE {
    ($k:expr, $cond:expr) => {{
        let cond: bool = $cond;
        if cond {
            $k.report($crate::event::Symptom::WarnOn, || {
                format!("WARN_ON_ONCE({}) at {}:{}", stringify!($cond), file!(), line!())
            });
        }
        cond
    }};
}
