//! What the client and the nodes used of their machines within the window of a measurement.
//!
//! Owns the asking: the client itself, and each node by a request of its own, at the begin, every second, and at the end. Nodes that share
//! a process (`plimsoll dev`) are counted once. Must not know what is measured meanwhile.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use plimsoll::client::{Admin, Client};
use plimsoll::server::usage_of_this_process;
use plimsoll::wire::NodeUsage;
use tokio::task::JoinHandle;

use crate::cli::output::Failure;

/// Between two looks at the memory; the greatest counts.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a node may take to answer. A silent one has no figures, and the measurement goes on.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Looks on during a measurement.
pub(super) struct Watch {
    client: JoinHandle<Option<Used>>,
    nodes: Vec<(u64, JoinHandle<Option<Used>>)>,
    leads: BTreeMap<u64, u32>,
}

/// What one process used within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Used {
    pub(super) process: u64,
    pub(super) cpu_seconds: f64,
    /// The most seen.
    pub(super) anonymous_bytes: u64,
    /// The most seen.
    pub(super) file_bytes: u64,
}

/// A process and the nodes that live in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct NodeProcess {
    pub(super) nodes: Vec<u64>,
    /// Partitions of the topic that they lead.
    pub(super) leads: u32,
    pub(super) used: Used,
}

/// What all used within the window.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) client: Used,
    pub(super) processes: Vec<NodeProcess>,
}

impl Watch {
    /// Begins to look, at all nodes of the cluster; ends by itself with the window.
    pub(super) async fn start(
        client: &Client,
        topic: &str,
        window: Range<Instant>,
    ) -> Result<Self, Failure> {
        let metadata = client
            .admin()
            .metadata(Some(vec![topic.to_owned()]))
            .await?;
        let partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
        let mut leads = BTreeMap::new();
        for leader in partitions.filter_map(|partition| partition.leader) {
            *leads.entry(leader).or_default() += 1;
        }
        let nodes = metadata.nodes.iter().map(|node| {
            let (admin, window) = (client.admin().timeout(ANSWER_WITHIN), window.clone());
            (
                node.id,
                tokio::spawn(watch(window, Asked::Node(admin, node.id))),
            )
        });
        Ok(Self {
            nodes: nodes.collect(),
            client: tokio::spawn(watch(window, Asked::Client)),
            leads,
        })
    }

    /// What was used, once the window is over.
    pub(super) async fn end(self) -> Usage {
        let client = self.client.await.ok().flatten().unwrap_or_default();
        let mut nodes = Vec::new();
        for (node, used) in self.nodes {
            if let Some(used) = used.await.ok().flatten() {
                nodes.push((node, self.leads.get(&node).copied().unwrap_or(0), used));
            }
        }
        Usage {
            client,
            processes: by_process(nodes),
        }
    }
}

/// Each process once: every node in it tells the same.
fn by_process(nodes: Vec<(u64, u32, Used)>) -> Vec<NodeProcess> {
    let mut processes: Vec<NodeProcess> = Vec::new();
    for (node, leads, used) in nodes {
        let known = processes
            .iter_mut()
            .find(|known| known.used.process == used.process);
        match known {
            Some(known) => {
                known.nodes.push(node);
                known.leads += leads;
            }
            None => processes.push(NodeProcess {
                nodes: vec![node],
                leads,
                used,
            }),
        }
    }
    processes
}

impl Usage {
    /// The process of the one node that leads everything, if there is one and it lives alone, and those of the others.
    pub(super) fn by_role(&self) -> Option<(&NodeProcess, Vec<&NodeProcess>)> {
        let (leading, others): (Vec<_>, Vec<_>) =
            self.processes.iter().partition(|process| process.leads > 0);
        match leading[..] {
            [leader] if leader.nodes.len() == 1 => Some((leader, others)),
            _ => None,
        }
    }
}

/// Whom to ask.
enum Asked {
    Client,
    Node(Admin, u64),
}

impl Asked {
    async fn usage(&self) -> Option<NodeUsage> {
        match self {
            Self::Client => Some(usage_of_this_process()),
            Self::Node(admin, node) => admin.usage(*node).await.ok(),
        }
    }
}

/// Looks at one process until the window is over; `None` if it does not answer at the begin or the end, or was started anew in between.
async fn watch(window: Range<Instant>, asked: Asked) -> Option<Used> {
    // So that the first answer of the window need not wait for a connection.
    let _ = asked.usage().await;
    tokio::time::sleep_until(window.start.into()).await;
    let first = asked.usage().await?;
    let mut most = first;
    loop {
        let next = (Instant::now() + LOOK_EVERY).min(window.end);
        tokio::time::sleep_until(next.into()).await;
        let usage = asked.usage().await;
        if let Some(usage) = usage {
            most.anonymous_bytes = most.anonymous_bytes.max(usage.anonymous_bytes);
            most.file_bytes = most.file_bytes.max(usage.file_bytes);
        }
        if next >= window.end {
            return used(first, usage?, most, window.end - window.start);
        }
    }
}

/// CPU time is told with the moment it was taken at: what lies between two answers is scaled to the window, so that an answer that came
/// late does not count for more.
fn used(first: NodeUsage, last: NodeUsage, most: NodeUsage, window: Duration) -> Option<Used> {
    if first.process != last.process || last.clock_ns <= first.clock_ns {
        return None;
    }
    let share = (last.cpu_ns - first.cpu_ns) as f64 / (last.clock_ns - first.clock_ns) as f64;
    Some(Used {
        process: first.process,
        cpu_seconds: share * window.as_secs_f64(),
        anonymous_bytes: most.anonymous_bytes,
        file_bytes: most.file_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(process: u64, clock_ns: u64, cpu_ns: u64) -> NodeUsage {
        NodeUsage {
            process,
            clock_ns,
            cpu_ns,
            anonymous_bytes: 7,
            file_bytes: 8,
        }
    }

    #[test]
    fn cpu_of_late_answers_is_scaled_to_the_window() {
        let window = Duration::from_secs(10);
        let (first, last) = (told(1, 0, 500), told(1, 12_000_000_000, 6_000_000_500));
        let used = used(first, last, last, window).unwrap();
        assert!((used.cpu_seconds - 5.0).abs() < 1e-9, "{used:?}");
        assert_eq!((used.anonymous_bytes, used.file_bytes), (7, 8));
    }

    #[test]
    fn node_that_was_started_anew_has_no_figures() {
        let (first, last) = (told(1, 0, 500), told(2, 12, 600));
        assert_eq!(used(first, last, last, Duration::from_secs(1)), None);
    }

    #[test]
    fn nodes_of_one_process_are_counted_once_and_have_no_roles() {
        let used = |process| Used {
            process,
            cpu_seconds: 1.0,
            ..Used::default()
        };
        let shared = by_process(vec![(1, 0, used(9)), (2, 1, used(9)), (3, 0, used(9))]);
        assert_eq!(shared.len(), 1);
        assert_eq!(
            (shared[0].nodes.as_slice(), shared[0].leads),
            (&[1, 2, 3][..], 1)
        );
        let usage = |processes| Usage {
            client: Used::default(),
            processes,
        };
        assert_eq!(usage(shared).by_role(), None);

        let apart = usage(by_process(vec![
            (1, 0, used(7)),
            (2, 1, used(8)),
            (3, 0, used(9)),
        ]));
        let (leader, followers) = apart.by_role().unwrap();
        assert_eq!(leader.nodes, [2]);
        assert_eq!(followers.len(), 2);

        let spread = usage(by_process(vec![(1, 1, used(7)), (2, 1, used(8))]));
        assert_eq!(spread.by_role(), None);
    }
}
