//! Bugs that other systems had, which a test can put back to see that the checks catch them.
//!
//! Owns the switch. There is one only in builds with `--cfg plimsoll_mutations`, which refuse to be release builds; in all others
//! `is` is constantly false and what it guards is compiled away. Must not know what any of the bugs does.

#[cfg(all(plimsoll_mutations, not(debug_assertions)))]
compile_error!("plimsoll_mutations puts bugs back for tests: it cannot be on in a release build");

/// Whether `bug` is put back on this thread.
#[cfg(not(plimsoll_mutations))]
pub(crate) const fn is(_bug: &str) -> bool {
    false
}

#[cfg(plimsoll_mutations)]
thread_local! {
    static PUT_BACK: std::cell::Cell<&'static str> = const { std::cell::Cell::new("") };
}

/// Whether `bug` is put back on this thread.
#[cfg(plimsoll_mutations)]
pub(crate) fn is(bug: &str) -> bool {
    PUT_BACK.get() == bug
}

/// Puts `bug` back on this thread, in place of any other; the empty name puts none.
#[cfg(plimsoll_mutations)]
pub fn put_back(bug: &'static str) {
    PUT_BACK.set(bug);
}
