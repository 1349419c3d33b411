//! `plimsoll cluster add-node | remove-node | replace-node | rebalance | transfer-leader`: asks for a change, and watches until it is done.
//!
//! Owns what "done" means to whoever asked. The cluster itself carries a change out; to stop watching stops nothing, and the same command
//! again watches on. Must not know how replicas move.

use std::time::Duration;

use plimsoll::client::{Admin, Client, ClientError};
use plimsoll::wire::{ClusterStatus, GroupStatus, ReplicaRole};
use tokio::time::Instant;

use super::progress::{Progress, Step};
use crate::cli::output::{Failure, Format};

/// Between two looks at the cluster.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a change may take to be agreed on: an election in between included.
const AGREED_WITHIN: Duration = Duration::from_secs(30);
/// How long leaders may take to go where they shall be, before that is left to the cluster.
const LEADERS_WITHIN: Duration = Duration::from_secs(30);

/// Where a change stands, as one look at the cluster tells.
enum Stage {
    Going(Step),
    Done,
}

/// Takes a node in, and gives it its share unless it shall stay `empty`.
pub(super) async fn add_node(
    client: &Client,
    format: Format,
    node: u64,
    address: &str,
    empty: bool,
) -> Result<(), Failure> {
    let (admin, mut progress) = (admin(client), Progress::new(format));
    agreed(&mut progress, admin.add_node(node, address)).await?;
    let added = format!("node {node} at {address} is taken in");
    progress.show(Step::new("added", added))?;
    watch(&admin, &mut progress, |status| joined(status, node)).await?;
    if empty {
        let text =
            format!("node {node} has joined; `plimsoll cluster rebalance` gives it replicas");
        return progress.end(&Step::new("done", text));
    }
    agreed(&mut progress, admin.rebalance()).await?;
    spread(&admin, &mut progress).await?;
    let text = format!("node {node} has joined and has its share");
    progress.end(&Step::new("done", text))
}

/// Has a node give everything away, and waits until it is forgotten.
pub(super) async fn remove_node(client: &Client, format: Format, node: u64) -> Result<(), Failure> {
    let (admin, mut progress) = (admin(client), Progress::new(format));
    agreed(&mut progress, admin.remove_node(node)).await?;
    gone(&admin, &mut progress, node).await?;
    let text = format!(
        "node {node} is removed; it stops by itself, and its data directory can be deleted"
    );
    progress.end(&Step::new("done", text))
}

/// Has a new node take the place of an old one.
pub(super) async fn replace_node(
    client: &Client,
    format: Format,
    old: u64,
    new: u64,
    address: &str,
) -> Result<(), Failure> {
    let (admin, mut progress) = (admin(client), Progress::new(format));
    agreed(&mut progress, admin.replace_node(old, new, address)).await?;
    let text = format!("node {new} at {address} takes the place of node {old}");
    progress.show(Step::new("added", text))?;
    watch(&admin, &mut progress, |status| joined(status, new)).await?;
    gone(&admin, &mut progress, old).await?;
    let text = format!(
        "node {new} has taken the place of node {old}, whose data directory can be deleted"
    );
    progress.end(&Step::new("done", text))
}

/// Evens out replicas and leaders.
pub(super) async fn rebalance(client: &Client, format: Format) -> Result<(), Failure> {
    let (admin, mut progress) = (admin(client), Progress::new(format));
    let moves = agreed(&mut progress, admin.rebalance()).await?;
    progress.show(Step::new(
        "planned",
        format!("{moves} replicas have to move"),
    ))?;
    spread(&admin, &mut progress).await?;
    progress.end(&Step::new("done", "replicas and leaders are spread evenly"))
}

/// Hands the leadership of `TOPIC/PARTITION`, or of a group by its number, to a node, and has it stay there.
pub(super) async fn transfer_leader(
    client: &Client,
    format: Format,
    place: &str,
    node: u64,
) -> Result<(), Failure> {
    let (admin, mut progress) = (admin(client), Progress::new(format));
    match find(&admin, place).await? {
        None => admin.transfer_controller(node).await?,
        Some((topic, partition)) => {
            admin.prefer_leader(&topic, partition, node).await?;
            admin.transfer_leader(&topic, partition, node).await?;
        }
    }
    let what = match place {
        "0" => "the controller",
        place => place,
    };
    progress.end(&Step::new("done", format!("node {node} leads {what}")))
}

fn admin(client: &Client) -> Admin {
    client.admin().timeout(AGREED_WITHIN)
}

/// Waits until the cluster has agreed to a change, or the user has had enough of waiting.
async fn agreed<T>(
    progress: &mut Progress,
    change: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, Failure> {
    tokio::select! {
        agreed = change => Ok(agreed?),
        _ = tokio::signal::ctrl_c() => {
            progress.clear();
            Err(Failure::Message(
                "stopped before the cluster had answered; the same command again finds out".to_owned(),
            ))
        }
    }
}

/// The topic and partition that a user means; `None` for the controller.
async fn find(admin: &Admin, place: &str) -> Result<Option<(String, u32)>, Failure> {
    let wrong = |what: String| Err(Failure::Message(what));
    if let Some((topic, partition)) = place.rsplit_once('/') {
        return match partition.parse() {
            Ok(partition) => Ok(Some((topic.to_owned(), partition))),
            Err(_) => wrong(format!(
                "{partition:?} is no partition: write TOPIC/PARTITION, such as ships/0"
            )),
        };
    }
    let Ok(number) = place.parse::<u64>() else {
        return wrong(format!(
            "{place:?} is neither TOPIC/PARTITION, such as ships/0, nor the number of a group"
        ));
    };
    let status = admin.status().await?;
    match status
        .groups
        .into_iter()
        .find(|group| group.group == number)
    {
        None => wrong(format!(
            "there is no group {number}; `plimsoll cluster status` shows all"
        )),
        Some(group) => Ok(group.topic.zip(group.partition)),
    }
}

/// Waits until a node is gone from the cluster.
async fn gone(admin: &Admin, progress: &mut Progress, node: u64) -> Result<(), Failure> {
    let mut most = 0;
    watch(admin, progress, |status| {
        if !status.nodes.iter().any(|other| other.id == node) {
            return Stage::Done;
        }
        let left = unsettled(status);
        most = most.max(left);
        Stage::Going(match left {
            0 => Step::new("leaving", format!("node {node} leaves the controller")),
            left => Step::new("moving", "partitions that have moved").counted(most - left, most),
        })
    })
    .await
}

/// Waits until every partition is where it shall be, and led by whom it shall be led; the latter not for ever.
async fn spread(admin: &Admin, progress: &mut Progress) -> Result<(), Failure> {
    let mut most = 0;
    watch(admin, progress, |status| {
        let left = unsettled(status);
        most = most.max(left);
        match left {
            0 => Stage::Done,
            left => Stage::Going(
                Step::new("moving", "partitions that have moved").counted(most - left, most),
            ),
        }
    })
    .await?;
    let (mut most, until) = (0, Instant::now() + LEADERS_WITHIN);
    watch(admin, progress, |status| {
        let led = |group: &&GroupStatus| group.leader == group.shall.first().copied();
        let left = partitions(status).filter(|group| !led(group)).count();
        most = most.max(left);
        match left {
            0 => Stage::Done,
            _ if Instant::now() >= until => Stage::Done,
            left => Stage::Going(
                Step::new("leading", "leaders that have moved").counted(most - left, most),
            ),
        }
    })
    .await
}

fn partitions(status: &ClusterStatus) -> impl Iterator<Item = &GroupStatus> {
    status.groups.iter().filter(|group| group.topic.is_some())
}

fn unsettled(status: &ClusterStatus) -> usize {
    partitions(status).filter(|group| !group.settled).count()
}

/// Whether a node runs and receives the controller's log.
fn joined(status: &ClusterStatus, node: u64) -> Stage {
    let member = status.nodes.iter().find(|other| other.id == node);
    let controller = status.groups.iter().find(|group| group.topic.is_none());
    let replica = controller.and_then(|group| {
        let mut replicas = group.replicas.iter();
        replicas.find(|replica| replica.node == node)
    });
    match (member, replica) {
        (Some(member), _) if !member.up => Stage::Going(Step::new(
            "waiting",
            format!(
                "waiting for node {node} to be reached at {}: is it started?",
                member.address
            ),
        )),
        (_, Some(replica)) if replica.role != ReplicaRole::Unknown && replica.match_index > 0 => {
            Stage::Done
        }
        _ => Stage::Going(Step::new(
            "joining",
            format!("node {node} joins the controller"),
        )),
    }
}

/// Looks at the cluster until `stage` says that it is done. Ctrl-C ends the looking, not the change.
async fn watch(
    admin: &Admin,
    progress: &mut Progress,
    mut stage: impl FnMut(&ClusterStatus) -> Stage,
) -> Result<(), Failure> {
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        let status = tokio::select! {
            status = admin.status() => status,
            _ = &mut interrupted => return Err(stopped_watching(progress)),
        };
        match status {
            // A node that has no word of a majority may tell of old times.
            Ok(status) if !status.current => {
                progress.show(Step::new(
                    "waiting",
                    "waiting for the controller to have a leader",
                ))?;
            }
            Ok(status) => match stage(&status) {
                Stage::Done => return Ok(()),
                Stage::Going(step) => progress.show(step)?,
            },
            Err(error) => {
                progress.show(Step::new(
                    "waiting",
                    format!("no word of the cluster: {error}"),
                ))?;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = &mut interrupted => return Err(stopped_watching(progress)),
        }
    }
}

fn stopped_watching(progress: &mut Progress) -> Failure {
    progress.clear();
    Failure::Message(
        "stopped watching; the cluster goes on by itself, and the same command watches on"
            .to_owned(),
    )
}
