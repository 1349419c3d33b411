//! Our changes of membership against the configuration cases of the crate `raft`, each carried through by a cluster of our cores.
//!
//! Their commands edit a configuration step by step (`v1` a voter, `l2` a learner, `r3` nobody); ours name what the group shall become.
//! So a command is turned into the target that it amounts to, and compared are: what is in force once the entry is appended (the joint
//! memberships of `enter-joint`), what is in force when the change is through (`simple`, `leave-joint`), who is a learner in both, and
//! what is refused. New voters are made learners and caught up before, as our rules want it.
//!
//! Without a counterpart, counted, and must stay as many as they are:
//! - *Before the first voter*: a group without voters does not exist here.
//! - *More than one voter at once is not `simple`*: with us every change of voters is joint, so there is no such refusal.
//! - *`leave-joint` outside a joint membership* and *`autoleave`*: the leader always leaves by itself, nobody else can.
//! - *`enter-joint` that changes no voter*: not joint with us (`ChangeError::Nothing`), and what follows until its `leave-joint`.
//! - Their state of replication per node (`match`, `next`): it is not a rule of membership.

use std::collections::BTreeMap;

use plimsoll::raft::{ChangeError, LogId, Membership, Millis, NodeId, Role, Target};
use raft_rs::eraftpb::Message as Wire;

use crate::ours::Ours;
use crate::testdata::{self, Case};
use crate::theirs::TICK_MS;

/// The highest node number in the cases.
const NODES: NodeId = 15;

/// All nodes that could ever be members; the group begins with node 1 alone.
struct Group {
    now: Millis,
    nodes: BTreeMap<NodeId, Ours>,
    network: Vec<Wire>,
}

impl Group {
    fn new() -> Group {
        let first = Membership::of_voters([1]);
        let node = |id| (id, Ours::with_log(id, &first, &[], true, id));
        let mut group = Group {
            now: 0,
            nodes: (1..=NODES).map(node).collect(),
            network: Vec::new(),
        };
        group.run();
        group
    }

    /// A second passes; every message arrives.
    fn run(&mut self) {
        for _ in 0..100 {
            self.now += TICK_MS;
            for ours in self.nodes.values_mut() {
                self.network.extend(ours.tick(self.now));
            }
            while !self.network.is_empty() {
                for wire in std::mem::take(&mut self.network) {
                    let ours = self.nodes.get_mut(&wire.to).unwrap();
                    self.network.extend(ours.step(self.now, &wire));
                }
            }
        }
    }

    fn leader(&self) -> &Ours {
        let leads = |ours: &&Ours| ours.core().role() == Role::Leader;
        let leaders = self.nodes.values().filter(leads);
        let leader = leaders.max_by_key(|ours| ours.core().term());
        leader.expect("the group has a leader")
    }

    fn membership(&self) -> Membership {
        self.leader().core().membership().1.clone()
    }

    /// Proposes the change. What the leader says waits in the network.
    fn propose(&mut self, target: &Target) -> Result<LogId, ChangeError> {
        let leader = self.leader().core().node();
        let ours = self.nodes.get_mut(&leader).unwrap();
        let (result, said) = ours.change(self.now, target.clone());
        self.network.extend(said);
        result
    }

    /// Proposes the change, after those of its voters that are none yet have learnt the log.
    fn change(&mut self, target: &Target) -> Result<LogId, ChangeError> {
        let now = self.membership();
        let new = target
            .voters
            .iter()
            .filter(|voter| !now.voters.contains(voter));
        let mut learners: Vec<NodeId> = now.learners.iter().chain(new).copied().collect();
        learners.sort_unstable();
        learners.dedup();
        if learners != now.learners {
            let voters = now.voters;
            self.propose(&Target { voters, learners }).unwrap();
            self.run();
        }
        self.propose(target)
    }
}

/// What the commands of `case` make of `now`, were they all carried out at once.
fn target(case: &Case, now: &Membership) -> Target {
    let (mut voters, mut learners) = (now.voters.clone(), now.learners.clone());
    for command in case.input.split_whitespace() {
        let (what, node) = command.split_at(1);
        let node: NodeId = node.parse().unwrap();
        // Theirs overlooks node 0; ours would refuse it.
        if node == 0 {
            continue;
        }
        voters.retain(|&voter| voter != node);
        learners.retain(|&learner| learner != node);
        match what {
            "v" => voters.push(node),
            "l" => learners.push(node),
            "r" => {}
            other => panic!("{}: {other}", case.place),
        }
    }
    voters.sort_unstable();
    learners.sort_unstable();
    Target { voters, learners }
}

/// What a case expects to be in force: `voters=(2 3)&&(1) learners=(4) learners_next=(1)`, and a line per node below.
struct Expected {
    voters: Vec<NodeId>,
    outgoing: Vec<NodeId>,
    learners: Vec<NodeId>,
    learners_next: Vec<NodeId>,
    nodes: Vec<NodeId>,
}

impl Expected {
    fn of(case: &Case) -> Expected {
        let (first, nodes) = case.expected.split_once('\n').unwrap();
        let list = |name: &str| -> Vec<NodeId> {
            let Some((_, after)) = first.split_once(name) else {
                return Vec::new();
            };
            let (inside, _) = after.split_once(')').unwrap();
            inside
                .split_whitespace()
                .map(|node| node.parse().unwrap())
                .collect()
        };
        let node = |line: &str| line.split_once(':').unwrap().0.parse().unwrap();
        Expected {
            voters: list("voters=("),
            outgoing: list("&&("),
            learners: list("learners=("),
            learners_next: list("learners_next=("),
            nodes: nodes.lines().map(node).collect(),
        }
    }

    fn check(&self, membership: &Membership, place: &str) {
        assert_eq!(membership.voters, self.voters, "{place}");
        assert_eq!(membership.voters_outgoing, self.outgoing, "{place}");
        let mut learners = [&self.learners[..], &self.learners_next].concat();
        learners.sort_unstable();
        assert_eq!(membership.learners, learners, "{place}");
        assert_eq!(
            membership.members(),
            self.nodes,
            "{place}: who gets the log"
        );
        for &node in &self.nodes {
            let learner = self.learners.contains(&node);
            assert_eq!(membership.is_learner(node), learner, "{place}: node {node}");
        }
    }
}

/// How many cases went which way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    changed: u32,
    joint: u32,
    left: u32,
    unchanged: u32,
    refused: u32,
    without_counterpart: u32,
}

/// One file: a history of one group.
#[derive(Default)]
struct File {
    group: Option<Group>,
    /// Theirs is joint although no voter changes, ours is not.
    joint_for_nothing: bool,
}

impl File {
    fn case(&mut self, case: &Case, sums: &mut Sums) {
        let refused = !case.expected.starts_with("voters=");
        if self.group.is_none() {
            if refused {
                sums.without_counterpart += 1;
                return;
            }
            self.group = Some(Group::new());
        }
        let group = self.group.as_mut().unwrap();
        let before = group.membership();
        if self.joint_for_nothing {
            self.joint_for_nothing = refused || case.command != "leave-joint";
            sums.without_counterpart += 1;
            return;
        }
        let target = target(case, &before);
        if refused {
            Self::refusal(group, case, &target, sums);
            assert_eq!(
                group.membership(),
                before,
                "{}: nothing changed",
                case.place
            );
            return;
        }
        let expected = Expected::of(case);
        match case.command.as_str() {
            "simple" => {
                match group.change(&target) {
                    Ok(_) => sums.changed += 1,
                    Err(ChangeError::Nothing) => sums.unchanged += 1,
                    Err(other) => panic!("{}: {other}", case.place),
                }
                group.run();
            }
            "enter-joint" if target.voters == before.voters => {
                assert_eq!(group.change(&target), Err(ChangeError::Nothing));
                self.joint_for_nothing = true;
                sums.without_counterpart += 1;
                return;
            }
            "enter-joint" => {
                group.change(&target).unwrap();
                sums.joint += 1;
            }
            "leave-joint" => {
                assert!(before.joint(), "{}", case.place);
                group.run();
                sums.left += 1;
            }
            other => panic!("{}: unknown command {other}", case.place),
        }
        expected.check(&group.membership(), &case.place);
    }

    /// Theirs refuses.
    fn refusal(group: &mut Group, case: &Case, target: &Target, sums: &mut Sums) {
        let ours = match case.expected.trim() {
            "removed all voters" => {
                assert_eq!(group.propose(target), Err(ChangeError::NoVoters));
                true
            }
            "config is already joint" | "can't apply simple config change in joint config" => {
                let result = group.propose(target);
                assert!(
                    matches!(result, Err(ChangeError::InProgress { .. })),
                    "{}: {result:?}",
                    case.place
                );
                true
            }
            "more than one voter changed without entering joint config"
            | "can't leave a non-joint config" => false,
            other => panic!("{}: unknown refusal {other}", case.place),
        };
        sums.refused += u32::from(ours);
        sums.without_counterpart += u32::from(!ours);
    }
}

#[test]
fn memberships_become_what_the_other_raft_makes_of_them() {
    let mut sums = Sums::default();
    for (_, cases) in testdata::read("confchange", 8) {
        let mut file = File::default();
        cases.iter().for_each(|case| file.case(case, &mut sums));
    }
    let expected = Sums {
        changed: 13,
        joint: 4,
        left: 4,
        unchanged: 15,
        refused: 7,
        without_counterpart: 12,
    };
    assert_eq!(sums, expected);
}
