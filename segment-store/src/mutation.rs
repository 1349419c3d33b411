//! Bugs that other systems had, which a test can put back to see that the checks catch them.
//!
//! Owns the switch. There is one only in builds with `--cfg plimsoll_mutations`, which refuse to be release builds; in all others
//! `is` is constantly false and what it guards is compiled away. Must not know what any of the bugs does.

#[cfg(plimsoll_mutations)]
mod hunt;
#[cfg(all(test, plimsoll_mutations))]
mod tests;

#[cfg(plimsoll_mutations)]
pub use hunt::{Bug, assert_each_is_caught};

#[cfg(all(plimsoll_mutations, not(debug_assertions)))]
compile_error!("plimsoll_mutations puts bugs back for tests: it cannot be on in a release build");

/// The environment variable that puts the bug of its name back in the whole process.
#[cfg(plimsoll_mutations)]
pub const VARIABLE: &str = "PLIMSOLL_BUG";

/// Whether `bug` is put back.
#[cfg(not(plimsoll_mutations))]
pub(crate) const fn is(_bug: &str) -> bool {
    false
}

#[cfg(plimsoll_mutations)]
thread_local! {
    static PUT_BACK: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Whether `bug` is put back: on this thread, or else in the whole process by [`VARIABLE`].
#[cfg(plimsoll_mutations)]
pub(crate) fn is(bug: &str) -> bool {
    PUT_BACK.get().unwrap_or_else(of_process) == bug
}

/// Puts `bug` back on this thread, in place of any other; the empty name puts none.
#[cfg(plimsoll_mutations)]
pub fn put_back(bug: &'static str) {
    PUT_BACK.set(Some(bug));
}

/// The bug that [`VARIABLE`] puts back; empty for none.
#[cfg(plimsoll_mutations)]
pub fn of_process() -> &'static str {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| std::env::var(VARIABLE).unwrap_or_default())
}
