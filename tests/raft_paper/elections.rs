//! Terms (5.1), elections (5.2), the election restriction (5.4.1), PreVote and refusal under a live leader (thesis, 9.6).

use plimsoll::raft::{
    Ballot, Config, Effect, LogId, Membership, Message, Raft, Restored, Role, Term,
};

use crate::cluster::Cluster;
use crate::solo::{Solo, append, id, vote_reply};

pub(crate) fn heartbeat(term: Term) -> Message {
    Message::Heartbeat {
        term,
        commit: 0,
        round: 1,
    }
}

pub(crate) fn vote(term: Term, last: LogId) -> Message {
    Message::Vote {
        term,
        last,
        transfer: false,
    }
}

/// Section 5.1: "If one server's current term is smaller than the other's, then it updates its current term."
#[test]
fn later_term_makes_anyone_a_follower_of_that_term() {
    for lead in [false, true] {
        let mut solo = Solo::new(3, &[], 1);
        if lead {
            solo.lead();
        } else {
            solo.campaign();
        }
        solo.step(2, append(9, LogId::ZERO, &[], 0));
        assert_eq!(
            (solo.core.role(), solo.core.term(), solo.core.leader()),
            (Role::Follower, 9, Some(2))
        );
    }
}

/// Section 5.1: "If a server receives a request with a stale term number, it rejects the request."
#[test]
fn request_of_earlier_term_is_refused_with_the_current_term() {
    let mut solo = Solo::new(3, &[1, 1], 5);
    let stale = [
        vote(4, id(4, 9)),
        append(4, id(1, 2), &[4], 2),
        heartbeat(4),
        Message::ReadIndex { term: 4, token: 7 },
    ];
    for message in stale {
        solo.step(2, message.clone());
        let effects = solo.take();
        let [
            Effect::Send {
                to: 2,
                message: reply,
            },
        ] = &effects[..]
        else {
            panic!("{message:?} gives {effects:?}");
        };
        assert_eq!(reply.term(), 5);
    }
    assert_eq!(
        (
            solo.core.last_index(),
            solo.core.commit_index(),
            solo.core.leader()
        ),
        (2, 0, None)
    );
}

/// Section 5.2: "When servers start up, they begin as followers", and remain so while a leader is heard.
#[test]
fn server_starts_as_follower_and_stays_one_while_it_hears_a_leader() {
    let mut solo = Solo::new(3, &[], 1);
    for _ in 0..100 {
        solo.step(2, heartbeat(1));
        solo.wait(149);
        assert_eq!(solo.core.role(), Role::Follower);
    }
}

/// Section 5.2: "If a follower receives no communication over a period of time called the election timeout", it campaigns:
/// first asking whether it could win (thesis, 9.6), then in a new term of its own.
#[test]
fn follower_that_hears_nobody_asks_first_and_then_campaigns() {
    let mut solo = Solo::new(3, &[1, 2], 2);
    solo.wait(301);
    assert_eq!(
        (solo.core.role(), solo.core.term()),
        (Role::PreCandidate, 2)
    );
    let question = Message::PreVote {
        term: 3,
        last: id(2, 2),
    };
    assert_eq!(solo.take_sent(), [(2, question.clone()), (3, question)]);

    solo.step(
        2,
        Message::PreVoteReply {
            term: 3,
            granted: true,
            conditional: false,
        },
    );
    assert_eq!((solo.core.role(), solo.core.term()), (Role::Candidate, 3));
    assert_eq!(
        solo.core.ballot(),
        Ballot {
            term: 3,
            vote: Some(1)
        }
    );
    let request = vote(3, id(2, 2));
    assert_eq!(solo.take_sent(), [(2, request.clone()), (3, request)]);
}

/// Section 5.2: "Votes for itself and issues RequestVote RPCs"; neither counts before the vote is durable.
#[test]
fn candidate_asks_and_counts_its_own_vote_only_once_that_is_durable() {
    let mut core = Raft::new(
        Config::new(1, 5),
        Restored::empty(Membership::of_voters([1, 2, 3])),
        0,
    );
    core.tick(301);
    core.step(
        301,
        2,
        Message::PreVoteReply {
            term: 1,
            granted: true,
            conditional: false,
        },
    );
    let effects = core.take_effects();
    let ballot = Ballot {
        term: 1,
        vote: Some(1),
    };
    assert!(effects.contains(&Effect::SaveBallot(ballot)));
    let asks = |effect: &Effect| {
        matches!(
            effect,
            Effect::Send {
                message: Message::Vote { .. },
                ..
            }
        )
    };
    assert!(
        !effects.iter().any(asks),
        "nobody is asked before the ballot is durable"
    );

    core.ballot_durable(Ballot {
        term: 1,
        vote: None,
    });
    assert!(
        core.take_effects().is_empty(),
        "another ballot releases nothing"
    );
    core.ballot_durable(ballot);
    assert_eq!(
        core.take_effects()
            .iter()
            .filter(|effect| asks(effect))
            .count(),
        2
    );
    core.step(302, 2, vote_reply(1, true));
    assert_eq!(core.role(), Role::Leader);
}

/// Section 5.2: "A candidate wins an election if it receives votes from a majority of the servers in the full cluster."
#[test]
fn candidate_wins_exactly_with_a_majority() {
    for voters in 1..=7u64 {
        for granted in 0..voters {
            let mut solo = Solo::new(voters, &[], 1);
            if voters == 1 {
                solo.wait(0);
            } else {
                solo.campaign();
            }
            for voter in 2..=voters {
                solo.step(voter, vote_reply(2, voter < 2 + granted));
            }
            let wins = 1 + granted > voters / 2;
            assert_eq!(
                solo.core.role() == Role::Leader,
                wins,
                "{granted} of {voters} beside its own"
            );
        }
    }
}

/// Section 5.2: "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis."
#[test]
fn voter_votes_once_a_term_and_remembers_it_across_a_crash() {
    let mut solo = Solo::new(3, &[], 1);
    let reply = |solo: &mut Solo, from| {
        solo.step(from, vote(4, LogId::ZERO));
        solo.take_sent().pop()
    };
    let granted = |to| Some((to, vote_reply(4, true)));
    let refused = |to| Some((to, vote_reply(4, false)));
    assert_eq!(reply(&mut solo, 2), granted(2));
    assert_eq!(reply(&mut solo, 3), refused(3));
    assert_eq!(
        reply(&mut solo, 2),
        granted(2),
        "a lost reply is given again"
    );

    let mut restored = Restored::empty(Membership::of_voters([1, 2, 3]));
    restored.ballot = solo.core.ballot();
    let mut solo = Solo::restored(restored);
    assert_eq!(reply(&mut solo, 3), refused(3));
    assert_eq!(reply(&mut solo, 2), granted(2));
}

/// A follower that learnt of its leader without having voted does not vote in that term any more, and a message of the
/// same term never clears a vote.
#[test]
fn vote_of_a_term_survives_the_leader_of_that_term() {
    let mut solo = Solo::new(3, &[], 1);
    solo.step(2, vote(4, LogId::ZERO));
    solo.step(3, heartbeat(4));
    assert_eq!(
        solo.core.ballot(),
        Ballot {
            term: 4,
            vote: Some(2)
        }
    );
    let mut solo = Solo::new(5, &[], 4);
    solo.step(3, heartbeat(4));
    solo.take();
    solo.step(2, vote(4, LogId::ZERO));
    assert_eq!(solo.take_sent(), [(2, vote_reply(4, false))]);
}

/// Figure 2: "Updated on stable storage before responding to RPCs"; a term that has passed is not answered for at all.
#[test]
fn granted_vote_waits_for_the_disk_and_is_dropped_if_the_term_moves_on() {
    let mut core = Raft::new(
        Config::new(1, 5),
        Restored::empty(Membership::of_voters([1, 2, 3])),
        0,
    );
    core.step(1, 2, vote(4, LogId::ZERO));
    let sends = |effects: Vec<Effect>| {
        effects
            .into_iter()
            .filter(|e| matches!(e, Effect::Send { .. }))
            .count()
    };
    assert_eq!(sends(core.take_effects()), 0);
    core.step(1, 3, vote(5, LogId::ZERO));
    core.ballot_durable(Ballot {
        term: 4,
        vote: Some(2),
    });
    assert_eq!(
        sends(core.take_effects()),
        0,
        "the vote in term 4 was never told"
    );
    core.ballot_durable(Ballot {
        term: 5,
        vote: Some(3),
    });
    let reply = Effect::Send {
        to: 3,
        message: vote_reply(5, true),
    };
    assert_eq!(core.take_effects(), [reply]);
}

/// Section 5.2: "If the leader's term is at least as large as the candidate's current term, then the candidate recognizes
/// the leader as legitimate and returns to follower state."
#[test]
fn candidate_follows_the_leader_of_its_term() {
    let mut solo = Solo::new(3, &[], 1);
    solo.campaign();
    solo.step(3, heartbeat(2));
    assert_eq!(
        (solo.core.role(), solo.core.leader()),
        (Role::Follower, Some(3))
    );
    assert_eq!(solo.core.ballot().vote, Some(1));
}

/// Section 5.2: "If many followers become candidates at the same time, votes could be split": the next timeouts decide.
#[test]
fn split_vote_is_resolved_by_new_timeouts() {
    let mut cluster = Cluster::new(4);
    cluster.now += 301;
    for node in cluster.ids() {
        cluster.tick(node);
    }
    cluster.settle();
    cluster.run(2_000);
    assert!(cluster.leader().is_some());
}

/// Each election that came to nothing may be followed by a longer pause, up to a bound; a leader ends that.
#[test]
fn timeouts_grow_with_elections_that_come_to_nothing_until_somebody_leads() {
    let longest = |rounds: u64, lead: bool| {
        let draws = (0..200).map(|seed| {
            let mut restored = Restored::empty(Membership::of_voters([1, 2, 3]));
            restored.ballot.term = 1;
            let core = Raft::new(Config::new(1, seed), restored, 1_000);
            let mut solo = Solo {
                core,
                now: 1_000,
                effects: Vec::new(),
            };
            for _ in 0..rounds {
                solo.wait(2_401);
                let term = solo.core.term() + 1;
                solo.step(
                    2,
                    Message::PreVoteReply {
                        term,
                        granted: true,
                        conditional: false,
                    },
                );
                assert_eq!(
                    (solo.core.role(), solo.core.term()),
                    (Role::Candidate, term)
                );
            }
            if lead {
                solo.step(2, heartbeat(solo.core.term()));
            }
            solo.core.next_deadline() - solo.now
        });
        draws.max().unwrap()
    };
    let near = |drawn: u64, most: u64| (most * 9 / 10..=most).contains(&drawn);
    assert!(near(longest(1, false), 300));
    assert!(near(longest(2, false), 600));
    assert!(near(longest(3, false), 1_200));
    assert!(near(longest(4, false), 2_400));
    assert!(near(longest(9, false), 2_400));
    assert!(near(longest(9, true), 300), "somebody leads");
}

/// Section 5.2: "Election timeouts are chosen randomly from a fixed interval (e.g., 150-300ms)."
#[test]
fn election_timeouts_are_random_within_their_range() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..500 {
        let core = Raft::new(
            Config::new(1, seed),
            Restored::empty(Membership::of_voters([1, 2, 3])),
            1_000,
        );
        seen.insert(core.next_deadline() - 1_000);
    }
    assert!(
        seen.first() >= Some(&150) && seen.last() <= Some(&300),
        "{seen:?}"
    );
    assert!(seen.len() > 100, "{} different timeouts", seen.len());
}

/// The preferred leader of a young group may be given a shorter first timeout, and only that.
#[test]
fn first_timeout_can_be_chosen_and_later_ones_cannot() {
    let mut config = Config::new(1, 3);
    config.first_timeout_ms = Some(5);
    let mut core = Raft::new(
        config,
        Restored::empty(Membership::of_voters([1, 2, 3])),
        1_000,
    );
    assert_eq!(core.next_deadline(), 1_005);
    core.tick(1_005);
    assert_eq!(core.role(), Role::PreCandidate);
    assert!(core.next_deadline() >= 1_155);
}

/// Section 5.4.1: "If the logs have last entries with different terms, then the log with the later term is more
/// up-to-date. If the logs end with the same term, then whichever log is longer is more up-to-date."
#[test]
fn vote_goes_only_to_a_log_at_least_as_up_to_date() {
    let ours: [Term; 3] = [1, 2, 2];
    let cases = [
        (id(2, 3), true),
        (id(2, 4), true),
        (id(2, 2), false),
        (id(3, 1), true),
        (id(1, 9), false),
        (LogId::ZERO, false),
    ];
    for (last, granted) in cases {
        let mut solo = Solo::new(3, &ours, 4);
        solo.step(2, vote(5, last));
        assert_eq!(
            solo.take_sent(),
            [(
                2,
                Message::VoteReply {
                    term: 5,
                    granted,
                    conditional: false
                }
            )],
            "{last:?}"
        );
        let mut solo = Solo::new(3, &ours, 4);
        solo.step(2, Message::PreVote { term: 5, last });
        let term = if granted { 5 } else { 4 };
        assert_eq!(
            solo.take_sent(),
            [(
                2,
                Message::PreVoteReply {
                    term,
                    granted,
                    conditional: false
                }
            )],
            "{last:?}"
        );
    }
}

/// A reply of a later term ends the candidacy, whatever it says; a reply of an earlier term says nothing.
#[test]
fn vote_reply_of_another_term_is_no_vote() {
    let mut solo = Solo::new(3, &[], 1);
    solo.campaign();
    solo.step(2, vote_reply(1, true));
    assert_eq!(solo.core.role(), Role::Candidate);
    solo.step(2, vote_reply(9, true));
    assert_eq!((solo.core.role(), solo.core.term()), (Role::Follower, 9));
}

/// Only the voters of the membership in force count, whoever else answers.
#[test]
fn votes_of_strangers_and_learners_do_not_count() {
    let mut membership = Membership::of_voters([1, 2, 3]);
    membership.learners = vec![4];
    let mut solo = Solo::restored(Restored::empty(membership));
    solo.wait(301);
    for stranger in [4, 5, 6] {
        solo.step(
            stranger,
            Message::PreVoteReply {
                term: 1,
                granted: true,
                conditional: false,
            },
        );
    }
    assert_eq!(solo.core.role(), Role::PreCandidate);
    solo.step(
        2,
        Message::PreVoteReply {
            term: 1,
            granted: true,
            conditional: false,
        },
    );
    for stranger in [4, 5, 6] {
        solo.step(stranger, vote_reply(1, true));
    }
    assert_eq!(solo.core.role(), Role::Candidate);
}
