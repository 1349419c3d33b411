//! The summary: how often what happened. A simulator in which nothing happens proves nothing.
//!
//! Owns the counts of a run and of a batch of runs, and the least that a batch must have seen.

use serde::Serialize;

/// Batches smaller than this may lack anything by chance.
const JUDGED_FROM: u64 = 200;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often what happened in a run, or in many.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Summary {
            $($(#[$doc])* pub $name: u64,)*
            /// Longest time from healing to convergence, in virtual milliseconds.
            pub converge_ms_max: u64,
        }

        impl Summary {
            /// Every count is `count`.
            #[cfg(test)]
            fn all(count: u64) -> Summary {
                Summary {
                    $($name: count,)*
                    converge_ms_max: count,
                }
            }

            /// The same, but that `name` never happened.
            #[cfg(test)]
            fn without(mut self, name: &str) -> Summary {
                $(if name == stringify!($name) {
                    self.$name = 0;
                })*
                self
            }

            /// Adds the counts of a run.
            pub fn add(&mut self, run: &Summary) {
                $(self.$name += run.$name;)*
                self.converge_ms_max = self.converge_ms_max.max(run.converge_ms_max);
            }

            /// Every count with its name.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![
                    $((stringify!($name), self.$name),)*
                    ("converge_ms_max", self.converge_ms_max),
                ]
            }
        }
    };
}

counts! {
    /// Events, each of them checked.
    events,
    /// Terms that had a leader.
    elections,
    /// Processes killed.
    kills,
    /// Nodes that lost power.
    power_cuts,
    /// Of both: while the process was opening its files.
    cuts_while_opening,
    /// Cuts of links, of all kinds.
    partitions,
    /// Of these: one way only.
    one_way_cuts,
    /// Of these: two halves with one node in common.
    bridges,
    /// Of these: links that came and went.
    flaps,
    /// Of these: leaders cut off.
    leaders_cut_off,
    /// Processes that stood still.
    pauses,
    /// Syncs that failed and were met.
    failed_syncs,
    /// Disks that filled up.
    full_disks,
    /// Bytes that changed at rest.
    flips,
    /// Of these: in header pages of segments.
    header_pages,
    /// Writes that landed where others' bytes were.
    misdirected,
    /// Entries spoilt under a process that went on.
    spoilt_running,
    /// Entries spoilt with others behind them that were durable and not committed yet.
    uncommitted_spoilt,
    /// Logs read in search of damage.
    scrubs,
    /// Of these: with damage found.
    scrub_finds,
    /// Groups found damaged at a start.
    damage_found,
    /// Groups found damaged while they ran.
    damage_met,
    /// Logs made whole from other replicas, or from their own files.
    repairs,
    /// Entries fetched for that.
    repaired_entries,
    /// Ends of logs that were opened as suspect.
    suspect_tails,
    /// Nodes that went on at a hundredth of their speed.
    crawls,
    /// Nodes whose clocks ran at another rate than the first one's.
    drifting_clocks,
    /// Transfers of leadership that were done.
    transfers,
    /// Changes of membership asked for.
    changes_asked,
    /// Changes of membership that were made.
    reconfigurations,
    /// Of their entries: joint ones committed.
    joint_committed,
    /// Leaders that gave way because they were no members any more.
    leaders_removed,
    /// Groups created in the middle of a run.
    groups_created,
    /// Batches acked.
    acks,
    /// Of these: recognised as retries.
    duplicates,
    /// Linearizable reads answered.
    reads,
    /// Commands of the controller answered.
    commands,
    /// Records consumed.
    consumed,
    /// Entries committed.
    committed,
    /// States taken from a leader in place of entries that were trimmed.
    installs,
    /// Messages to peers that were far behind.
    bulk_sends,
    /// Records that retention let go before a consumer had read them.
    retained_past,
    /// Truncations of logs.
    truncations,
    /// Turns of nodes after which a replica rested.
    turns_at_rest,
    /// Of replicas that rested: woken by the silence of a node, or by its being another.
    woken_by_beats,
    /// Virtual milliseconds.
    virtual_ms,
}

impl Summary {
    /// What a batch of `seeds` seeds had too little of to mean anything, if so.
    pub fn quiet_about(&self, seeds: u64) -> Option<String> {
        if seeds < JUDGED_FROM {
            return None;
        }
        let least = [
            ("elections", self.elections, 3 * seeds),
            ("kills", self.kills, seeds),
            ("power cuts", self.power_cuts, seeds),
            ("cuts while opening", self.cuts_while_opening, seeds / 10),
            ("partitions", self.partitions, seeds),
            ("pauses", self.pauses, seeds / 4),
            ("failed syncs", self.failed_syncs, seeds / 20),
            ("full disks", self.full_disks, seeds / 10),
            ("flips", self.flips, seeds / 4),
            ("damaged groups found", self.damage_found, seeds / 10),
            ("damage met", self.damage_met, seeds / 100),
            ("repairs", self.repairs, seeds / 10),
            ("suspect tails", self.suspect_tails, seeds / 50),
            ("header pages that rotted", self.header_pages, seeds / 80),
            ("writes that landed elsewhere", self.misdirected, seeds / 40),
            (
                "entries spoilt under a running node",
                self.spoilt_running,
                seeds / 20,
            ),
            (
                "entries spoilt before all were committed",
                self.uncommitted_spoilt,
                seeds / 50,
            ),
            ("scrubs", self.scrubs, seeds / 8),
            ("scrubs that found damage", self.scrub_finds, seeds / 100),
            ("repaired entries", self.repaired_entries, seeds / 10),
            ("one-way cuts", self.one_way_cuts, seeds / 4),
            ("bridges", self.bridges, seeds / 4),
            ("flaps", self.flaps, seeds / 4),
            ("leaders cut off", self.leaders_cut_off, seeds / 2),
            ("crawls", self.crawls, seeds / 4),
            ("drifting clocks", self.drifting_clocks, seeds / 2),
            ("transfers", self.transfers, seeds / 10),
            ("changes asked for", self.changes_asked, seeds),
            ("reconfigurations", self.reconfigurations, seeds / 4),
            ("joint memberships", self.joint_committed, seeds / 10),
            ("leaders removed", self.leaders_removed, seeds / 20),
            ("groups created", self.groups_created, seeds / 4),
            ("acks", self.acks, 20 * seeds),
            ("duplicates answered", self.duplicates, seeds / 4),
            ("reads", self.reads, 5 * seeds),
            ("commands", self.commands, seeds),
            ("records consumed", self.consumed, 50 * seeds),
            ("truncations", self.truncations, seeds / 10),
            ("installs", self.installs, seeds / 20),
            ("messages to peers far behind", self.bulk_sends, seeds),
            ("turns at rest", self.turns_at_rest, 50 * seeds),
            ("replicas woken by beats", self.woken_by_beats, seeds / 8),
        ];
        let quiet = least.iter().find(|(_, found, least)| found < least);
        quiet.map(|(what, found, least)| {
            format!("{found} {what} in {seeds} seeds: too few, at least {least} belong there")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What says how large a batch was, or may well not happen in it.
    const FREE: [&str; 5] = [
        "events",
        "committed",
        "retained_past",
        "virtual_ms",
        "converge_ms_max",
    ];

    #[test]
    fn batch_in_which_some_fault_never_happened_is_told_to_be_too_quiet() {
        let seeds = 500;
        let busy = Summary::all(100 * seeds);
        assert_eq!(busy.quiet_about(seeds), None);
        for (name, _) in busy.counts() {
            let quiet = busy.without(name).quiet_about(seeds).is_some();
            assert_eq!(quiet, !FREE.contains(&name), "without any {name}");
        }
    }
}
