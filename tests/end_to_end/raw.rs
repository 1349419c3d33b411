//! A client without manners: whatever bytes a test likes, on streams of its own.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use plimsoll::wire::{
    ApiError, BatchBuilder, Codec, Greeting, Metadata, PartitionInfo, ProducedAck, ProducerStamp,
    REPLY_HEAD_BYTES_MAX, Reply, Request, decode_greeting, decode_reply, encode_greeting,
    encode_request,
};
use transport::{
    Alpn, Connection, Credentials, Endpoint, Limits, RecvHalf, SendHalf, TransportOptions,
};

use crate::harness::{Cluster, PATIENCE};

const LIMITS: Limits = Limits {
    head_bytes_max: REPLY_HEAD_BYTES_MAX,
    body_bytes_max: 64 << 20,
};

/// A connection to one node.
pub(crate) struct Raw {
    connection: Connection,
    _endpoint: Endpoint,
}

/// One stream of it.
pub(crate) struct Stream {
    pub(crate) send: SendHalf,
    pub(crate) recv: RecvHalf,
}

impl Raw {
    pub(crate) async fn connect(cluster: &Cluster, node: u64) -> Raw {
        let client = cluster.client_config();
        let credentials = Credentials::load(&client.ca, &client.cert, &client.key).unwrap();
        Raw::connect_as(cluster, node, &credentials, Alpn::Client).await
    }

    pub(crate) async fn connect_as(
        cluster: &Cluster,
        node: u64,
        credentials: &Credentials,
        alpn: Alpn,
    ) -> Raw {
        let endpoint = Endpoint::client(credentials, &TransportOptions::default()).unwrap();
        let connection = endpoint
            .connect(cluster.address(node), node, alpn)
            .await
            .unwrap();
        Raw {
            connection,
            _endpoint: endpoint,
        }
    }

    pub(crate) async fn open(&self) -> Stream {
        let (send, recv) = self.connection.open_bi(0).await.unwrap();
        Stream { send, recv }
    }

    /// Makes itself known as another node would, and waits for the answer.
    pub(crate) async fn greet(&self, greeting: &Greeting) {
        let mut stream = self.open().await;
        let (kind, head) = encode_greeting(greeting);
        stream.send.send(kind, &head, &mut []).await.unwrap();
        let answer = within(stream.recv.recv(&LIMITS)).await.unwrap();
        let answer = answer.expect("an answer before the end");
        decode_greeting(answer.kind, &answer.head).unwrap();
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// One request on a stream of its own.
    pub(crate) async fn ask(&self, request: &Request) -> Reply {
        let mut stream = self.open().await;
        stream.send(request, &[]).await;
        stream.reply().await.0
    }

    pub(crate) async fn metadata(&self) -> Metadata {
        match self.ask(&Request::Metadata { topics: None }).await {
            Reply::Metadata(metadata) => metadata,
            other => panic!("metadata was answered with {other:?}"),
        }
    }

    /// Makes the topic "ships" of one partition, and returns that.
    pub(crate) async fn create_topic(&self, replicas: u32) -> PartitionInfo {
        let create = Request::CreateTopic {
            name: "ships".into(),
            partitions: 1,
            replicas,
            token: 1,
        };
        assert_eq!(self.ask(&create).await, Reply::TopicCreated);
        self.metadata().await.topics[0].partitions[0].clone()
    }

    /// Sends one batch, and returns its first offset or why not.
    pub(crate) async fn produce(&self, group: u64, frame: Bytes) -> Result<u64, ApiError> {
        self.produce_by(group, frame, false).await
    }

    /// The same; with `forward`, a node that does not lead is to pass the batch on.
    pub(crate) async fn produce_by(
        &self,
        group: u64,
        frame: Bytes,
        forward: bool,
    ) -> Result<u64, ApiError> {
        let mut stream = self.open().await;
        let request = Request::Produce {
            correlation: 7,
            group,
            forward,
        };
        stream.send(&request, &[frame]).await;
        match stream.reply().await.0 {
            Reply::Produced { acks } => match acks[..] {
                [
                    ProducedAck {
                        correlation: 7,
                        base_offset,
                    },
                ] => Ok(base_offset),
                _ => panic!("one batch was answered with {acks:?}"),
            },
            Reply::Error {
                correlation: 7,
                error,
            } => Err(error),
            other => panic!("a batch was answered with {other:?}"),
        }
    }
}

impl Stream {
    pub(crate) async fn send(&mut self, request: &Request, body: &[Bytes]) {
        let (kind, head) = encode_request(request);
        self.send
            .send(kind, &head, &mut body.to_vec())
            .await
            .unwrap();
    }

    /// The next reply and its body.
    pub(crate) async fn reply(&mut self) -> (Reply, BytesMut) {
        let message = within(self.recv.recv(&LIMITS))
            .await
            .unwrap()
            .expect("a reply before the end");
        (
            decode_reply(message.kind, &message.head).unwrap(),
            message.body,
        )
    }
}

/// Fails a test that would hang.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    let limit: Duration = PATIENCE;
    tokio::time::timeout(limit, future)
        .await
        .expect("it takes too long")
}

/// A batch of records with these values, by nobody in particular.
pub(crate) fn batch(group: u64, values: &[&[u8]]) -> Bytes {
    let mut builder = BatchBuilder::new(8 << 20, 0);
    for value in values {
        builder.push(None, Some(value), &[], 1_000).unwrap();
    }
    builder.build(ProducerStamp::default(), group, Codec::None)
}
