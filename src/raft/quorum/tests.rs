//! The arithmetic against a model that could not be simpler: try every subset.

use super::*;

/// Every list of `len` numbers below `base`.
fn all_lists(len: usize, base: u64) -> impl Iterator<Item = Vec<u64>> {
    let total = base.pow(u32::try_from(len).unwrap());
    (0..total).map(move |mut number| {
        let mut digit = || {
            let digit = number % base;
            number /= base;
            digit
        };
        (0..len).map(|_| digit()).collect()
    })
}

/// Whether some subset of `voters`, larger than its complement, consists of nodes that `agree`.
fn some_majority(voters: &[NodeId], agree: impl Fn(NodeId) -> bool) -> bool {
    (0..1u32 << voters.len()).any(|subset| {
        let inside = |position: &usize| subset & (1 << position) != 0;
        let members: Vec<usize> = (0..voters.len()).filter(inside).collect();
        members.len() > voters.len() - members.len()
            && members.iter().all(|&position| agree(voters[position]))
    })
}

fn model_agrees(membership: &Membership, agree: impl Fn(NodeId) -> bool) -> bool {
    let joint = !membership.voters_outgoing.is_empty();
    some_majority(&membership.voters, &agree)
        && (!joint || some_majority(&membership.voters_outgoing, &agree))
}

/// Simple and joint memberships of nodes 1 to 7: disjoint, overlapping, growing, shrinking; learners never count.
fn memberships() -> Vec<Membership> {
    let sets: [(&[NodeId], &[NodeId]); 12] = [
        (&[1], &[]),
        (&[1, 2], &[]),
        (&[1, 2, 3], &[]),
        (&[1, 2, 3, 4], &[]),
        (&[1, 2, 3, 4, 5], &[]),
        (&[1, 2, 3, 4, 5, 6, 7], &[]),
        (&[1], &[2]),
        (&[1, 2, 3], &[1]),
        (&[1, 2, 3], &[3, 4, 5]),
        (&[1, 2, 3], &[4, 5, 6]),
        (&[1, 2, 3, 4, 5], &[1, 2, 3]),
        (&[1, 2, 3, 4], &[2, 3, 4, 5, 6]),
    ];
    let learners = vec![7, 8];
    sets.map(|(voters, outgoing)| Membership {
        voters: voters.to_vec(),
        voters_outgoing: outgoing.to_vec(),
        learners: learners.clone(),
    })
    .to_vec()
}

#[test]
fn reached_index_is_the_largest_that_a_majority_of_each_set_has() {
    for membership in memberships() {
        for values in all_lists(7, 4) {
            let value_of = |node: NodeId| values.get(node as usize - 1).copied().unwrap_or(9);
            let model = (0..4)
                .rev()
                .find(|&value| model_agrees(&membership, |node| value_of(node) >= value));
            assert_eq!(
                reached(&membership, value_of),
                model.unwrap_or(0),
                "{membership:?} with {values:?}"
            );
        }
    }
}

#[test]
fn vote_is_won_or_lost_exactly_when_no_open_answer_can_change_that() {
    for membership in memberships() {
        for answers in all_lists(7, 3) {
            let vote_of = |node: NodeId| match answers.get(node as usize - 1) {
                Some(0) => Some(true),
                Some(1) => Some(false),
                _ => None,
            };
            let certain = model_agrees(&membership, |node| vote_of(node) == Some(true));
            let possible = model_agrees(&membership, |node| vote_of(node) != Some(false));
            let model = match (certain, possible) {
                (true, _) => Tally::Won,
                (false, true) => Tally::Open,
                (false, false) => Tally::Lost,
            };
            assert_eq!(
                tally(&membership, vote_of),
                model,
                "{membership:?} with {answers:?}"
            );
        }
    }
}

#[test]
fn nobody_agrees_where_nobody_votes() {
    let nobody = Membership::default();
    assert_eq!(reached(&nobody, |_| 9), 0);
    assert_eq!(tally(&nobody, |_| Some(true)), Tally::Lost);
}
