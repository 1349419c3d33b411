//! Bugs that other systems had, which a test can put back to see that the checks catch them.
//!
//! Owns the switch. There is one only in builds with `--cfg plimsoll_mutations`, which refuse to be release builds; in all others
//! `is` is constantly false and what it guards is compiled away. Must not know what any of the bugs does. `segment_store` has its
//! own, thrown by the same variable.

#[cfg(all(plimsoll_mutations, not(debug_assertions)))]
compile_error!("plimsoll_mutations puts bugs back for tests: it cannot be on in a release build");

/// Whether `bug` is put back.
#[cfg(not(plimsoll_mutations))]
pub(crate) const fn is(_bug: &str) -> bool {
    false
}

#[cfg(plimsoll_mutations)]
thread_local! {
    static PUT_BACK: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Whether `bug` is put back: on this thread, or else in the whole process by [`segment_store::mutation::VARIABLE`].
#[cfg(plimsoll_mutations)]
pub(crate) fn is(bug: &str) -> bool {
    let put_back = PUT_BACK.get();
    put_back.unwrap_or_else(segment_store::mutation::of_process) == bug
}

/// Puts `bug` back on this thread, in place of any other; the empty name puts none.
#[cfg(plimsoll_mutations)]
pub fn put_back(bug: &'static str) {
    PUT_BACK.set(Some(bug));
}

#[cfg(all(test, plimsoll_mutations))]
mod tests;
