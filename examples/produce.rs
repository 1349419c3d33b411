//! Sends greetings and waits for their acks.
//!
//! `cargo run --example produce -- plimsoll-data/client.toml greetings`, beside a running `plimsoll dev`.

use std::error::Error;
use std::time::Duration;

use plimsoll::client::{Client, Compression, Record};
use plimsoll::config::ClientConfig;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(config), Some(topic)) = (args.next(), args.next()) else {
        return Err("usage: produce CLIENT.toml TOPIC".into());
    };
    let client = Client::connect(&ClientConfig::load(config.as_ref())?).await?;
    let producer = client
        .producer(topic)
        .linger(Duration::from_millis(5))
        .compression(Compression::Lz4)
        .build()
        .await?;

    // A record whose ack is waited for: when this returns, a majority of the replicas has it on disk.
    let delivery = producer.send(Record::value("hello").key("world")).await?;
    let ack = delivery.await?;
    println!("acked: partition {}, offset {}", ack.partition, ack.offset);

    // Many at once: send, keep the deliveries, and collect the acks afterwards.
    let mut deliveries = Vec::new();
    for i in 0..1000 {
        let value = format!("greeting {i}");
        deliveries.push(producer.send(Record::value(&value)).await?);
    }
    for delivery in deliveries {
        delivery.await?;
    }
    println!("a thousand more are acked");

    // What was sent is on its way even if nobody waits for it; closing waits for all of it.
    producer.close().await?;
    client.close().await;
    Ok(())
}
