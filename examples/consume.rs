//! Prints the records of a topic, and waits for more.
//!
//! `cargo run --example consume -- plimsoll-data/client.toml greetings`, beside a running `plimsoll dev`.

use std::error::Error;

use plimsoll::client::{Client, From, Replica};
use plimsoll::config::ClientConfig;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(config), Some(topic)) = (args.next(), args.next()) else {
        return Err("usage: consume CLIENT.toml TOPIC".into());
    };
    let client = Client::connect(&ClientConfig::load(config.as_ref())?).await?;
    let mut consumer = client
        .consumer(topic)
        .from(From::Start)
        .replica(Replica::Any)
        .follow(true)
        .stream()
        .await?;

    while let Some(record) = consumer.next().await {
        // An error concerns one partition; a program that prefers to go on with the others may.
        let record = record?;
        println!(
            "{}/{} at {}: {}",
            record.partition(),
            record.offset(),
            record.timestamp_ms(),
            String::from_utf8_lossy(record.value().unwrap_or_default()),
        );
    }
    Ok(())
}
