//! The client library: producers, consumers, administration.
//!
//! Owns what a program that uses the log sees of it. Knows the messages and the transport; knows nothing of replicas,
//! files or consensus. At the outer ends of the walks produce and fetch.
//!
//! A [`Client`] finds the cluster through any node it is told of, keeps one QUIC connection to each node it needs, shared by
//! all producers and consumers, and finds leaders again by itself when they move. It runs on the tokio runtime it was made
//! in, of any flavour.
//!
//! ```no_run
//! use plimsoll::client::{Client, From, Record};
//! use plimsoll::config::ClientConfig;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(&ClientConfig::load("client.toml".as_ref())?).await?;
//! client.admin().create_topic("greetings", 3, 3).await?;
//!
//! let producer = client.producer("greetings").build().await?;
//! let delivery = producer.send(Record::value(b"hello").key(b"world")).await?;
//! let ack = delivery.await?; // fsynced on a majority
//! println!("partition {}, offset {}", ack.partition, ack.offset);
//!
//! let mut consumer = client.consumer("greetings").from(From::Start).stream().await?;
//! while let Some(record) = consumer.next().await {
//!     let record = record?;
//!     println!("{}: {:?}", record.offset(), record.value());
//! }
//! # Ok(())
//! # }
//! ```

mod admin;
mod backoff;
mod consumer;
mod error;
mod link;
mod producer;
mod record;

use std::sync::Arc;

pub use admin::Admin;
pub use consumer::{Batch, Consumer, ConsumerBuilder, From, Replica};
pub use error::{ClientError, ConsumeError, ConsumeReason, ProduceError};
pub use producer::{Ack, Compression, Delivery, PRODUCER_BYTES_MAX, Producer, ProducerBuilder};
pub use record::{ConsumedRecord, Record};

use crate::config::ClientConfig;
use link::Cluster;

/// A cluster, as seen from outside. Cheap to clone; all clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    cluster: Arc<Cluster>,
}

impl Client {
    /// Loads the certificates and finds the cluster through the first node that answers. Must be called within a tokio
    /// runtime; everything the client does later runs there.
    ///
    /// # Errors
    /// [`ClientError`] if a certificate is of no use, or no node answers within ten seconds.
    pub async fn connect(config: &ClientConfig) -> Result<Client, ClientError> {
        let cluster = Cluster::connect(config).await?;
        Ok(Client {
            cluster: Arc::new(cluster),
        })
    }

    /// Settings of a producer for `topic`; [`build`](ProducerBuilder::build) starts it.
    pub fn producer(&self, topic: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder::new(Arc::clone(&self.cluster), topic.into())
    }

    /// Settings of a consumer of `topic`; [`stream`](ConsumerBuilder::stream) starts it.
    pub fn consumer(&self, topic: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder::new(Arc::clone(&self.cluster), topic.into())
    }

    /// Topics, status, leadership.
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.cluster))
    }

    /// Closes all connections in good order. Producers and consumers of this client fail from now on: close them first.
    pub async fn close(&self) {
        self.cluster.close().await;
    }
}
