//! The summary: how often what happened. A simulator in which nothing happens proves nothing.
//!
//! Owns the counts of a run and of a batch of runs, and the least that a batch must have seen.

/// How often what happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) events: u64,
    pub(crate) elections: u64,
    pub(crate) kills: u64,
    pub(crate) power_cuts: u64,
    pub(crate) cuts_while_opening: u64,
    pub(crate) partitions: u64,
    pub(crate) pauses: u64,
    pub(crate) failed_syncs: u64,
    pub(crate) full_disks: u64,
    pub(crate) transfers: u64,
    pub(crate) acks: u64,
    pub(crate) duplicates: u64,
    pub(crate) reads: u64,
    pub(crate) commands: u64,
    pub(crate) consumed: u64,
    pub(crate) committed: u64,
    pub(crate) truncations: u64,
    pub(crate) virtual_ms: u64,
    pub(crate) converge_ms_max: u64,
}

impl Summary {
    /// Adds the counts of a run.
    pub(crate) fn add(&mut self, run: &Summary) {
        self.events += run.events;
        self.elections += run.elections;
        self.kills += run.kills;
        self.power_cuts += run.power_cuts;
        self.cuts_while_opening += run.cuts_while_opening;
        self.partitions += run.partitions;
        self.pauses += run.pauses;
        self.failed_syncs += run.failed_syncs;
        self.full_disks += run.full_disks;
        self.transfers += run.transfers;
        self.acks += run.acks;
        self.duplicates += run.duplicates;
        self.reads += run.reads;
        self.commands += run.commands;
        self.consumed += run.consumed;
        self.committed += run.committed;
        self.truncations += run.truncations;
        self.virtual_ms += run.virtual_ms;
        self.converge_ms_max = self.converge_ms_max.max(run.converge_ms_max);
    }

    /// Panics if a batch of `seeds` seeds was too quiet to mean anything.
    pub(crate) fn assert_busy(&self, seeds: u64) {
        let least = [
            ("elections", self.elections, 3 * seeds),
            ("kills", self.kills, seeds),
            ("power cuts", self.power_cuts, seeds),
            ("cuts while opening", self.cuts_while_opening, seeds / 10),
            ("partitions", self.partitions, seeds),
            ("pauses", self.pauses, seeds / 4),
            ("failed syncs", self.failed_syncs, seeds / 20),
            ("full disks", self.full_disks, seeds / 10),
            ("transfers", self.transfers, seeds / 10),
            ("acks", self.acks, 20 * seeds),
            ("duplicates answered", self.duplicates, seeds / 4),
            ("reads", self.reads, 5 * seeds),
            ("commands", self.commands, seeds),
            ("records consumed", self.consumed, 50 * seeds),
            ("truncations", self.truncations, seeds / 10),
        ];
        for (what, found, least) in least {
            assert!(
                found >= least,
                "{found} {what} in {seeds} seeds: too few, at least {least} belong there"
            );
        }
    }
}
