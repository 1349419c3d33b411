//! Makes a topic, shows who leads its partitions and how far they are, and deletes it.
//!
//! `cargo run --example admin -- plimsoll-data/client.toml`, beside a running `plimsoll dev`.

use std::error::Error;

use plimsoll::client::{Client, ClientError};
use plimsoll::config::ClientConfig;
use plimsoll::wire::ApiError;

const TOPIC: &str = "example";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = std::env::args().nth(1).ok_or("usage: admin CLIENT.toml")?;
    let client = Client::connect(&ClientConfig::load(config.as_ref())?).await?;
    let admin = client.admin();

    match admin.create_topic(TOPIC, 3, 0).await {
        Ok(()) => println!("made {TOPIC}"),
        Err(ClientError::Refused(ApiError::TopicExists)) => println!("{TOPIC} is there already"),
        Err(error) => return Err(error.into()),
    }
    for partition in admin.describe_topic(TOPIC).await?.partitions {
        let end = admin.end_offset(TOPIC, partition.partition).await?;
        println!(
            "partition {}: leader {:?}, replicas {:?}, {end} records",
            partition.partition, partition.leader, partition.replicas
        );
    }
    for node in admin.status().await?.nodes {
        println!(
            "node {} at {}: {}",
            node.id,
            node.address,
            if node.up { "up" } else { "down" }
        );
    }
    admin.delete_topic(TOPIC).await?;
    client.close().await;
    Ok(())
}
