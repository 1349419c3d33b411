package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A stream of three replicas in files.
type natsPeer struct {
	load   Load
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	name   string
}

func connectNats(load Load) (Peer, error) {
	peer := &natsPeer{load: load, name: fmt.Sprintf("load-%d", time.Now().UnixNano())}
	return peer, peer.connect(load.servers...)
}

func (p *natsPeer) connect(servers ...string) (err error) {
	p.conn, err = nats.Connect("nats://"+strings.Join(servers, ",nats://"), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		return err
	}
	p.js, err = jetstream.New(p.conn, jetstream.WithPublishAsyncMaxPending(1<<20), jetstream.WithPublishAsyncTimeout(patience))
	return err
}

func within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	_ = cancel // the program ends before it matters
	return ctx
}

func (p *natsPeer) Prepare() (err error) {
	config := jetstream.StreamConfig{
		Name: p.name, Subjects: []string{p.name}, Replicas: len(p.load.servers), Storage: jetstream.FileStorage,
		AllowDirect: true, AllowBatchPublish: p.load.batches,
	}
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		p.stream, err = p.js.CreateStream(within(5*time.Second), config)
		if err == nil {
			break
		}
		if time.Since(began) > patience/2 {
			return err
		}
	}
	if p.load.work == "failover" {
		return nil
	}
	return p.talkToLeader()
}

// talkToLeader saves the load a hop between servers.
func (p *natsPeer) talkToLeader() error {
	leader, err := p.Leader()
	if err != nil {
		return err
	}
	p.conn.Close()
	if err := p.connect(p.load.servers[leader]); err != nil {
		return err
	}
	p.stream, err = p.js.Stream(within(5*time.Second), p.name)
	return err
}

func (p *natsPeer) Remove() error {
	defer p.conn.Close()
	return p.js.DeleteStream(within(patience), p.name)
}

func (p *natsPeer) Leader() (int, error) {
	info, err := p.stream.Info(within(5 * time.Second))
	if err != nil {
		return 0, err
	}
	var node int
	_, err = fmt.Sscanf(info.Cluster.Leader, "n%d", &node)
	return node, err
}

// Read reads by an ordered consumer, which takes no acks.
func (p *natsPeer) Read(n int) error {
	config := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy}
	consumer, err := p.stream.OrderedConsumer(within(patience), config)
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(10_000))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for range n {
		if _, err := messages.Next(jetstream.NextMaxWait(patience)); err != nil {
			return err
		}
	}
	return nil
}

func (p *natsPeer) Sender(acked Acked) (Sender, error) {
	if p.load.batches {
		return newFastBatch(p, acked)
	}
	sender := &natsSender{peer: p, sent: make(chan natsSent, 1<<20)}
	wait := func(sent natsSent) {
		select {
		case <-sent.future.Ok():
			acked(sent.begun, nil)
		case err := <-sent.future.Err():
			acked(sent.begun, err)
		}
	}
	go func() {
		for sent := range sender.sent {
			if p.load.work == "failover" {
				go wait(sent) // what was lost with the leader holds nobody up
			} else {
				wait(sent)
			}
		}
	}()
	return sender, nil
}

type natsSent struct {
	future jetstream.PubAckFuture
	begun  time.Time
}

type natsSender struct {
	peer *natsPeer
	sent chan natsSent
}

func (s *natsSender) Send(value []byte, begun time.Time) error {
	future, err := s.peer.js.PublishAsync(s.peer.name, value)
	if err != nil {
		return err
	}
	s.sent <- natsSent{future, begun}
	return nil
}

func (s *natsSender) End() error { return nil }

func (s *natsSender) Close() { close(s.sent) }

// fastBatch publishes by the server's fast-ingest batches: a message carries its place in the batch in its reply subject, and an ack covers
// all messages up to one. There is no client of it in the registry.
type fastBatch struct {
	peer     *natsPeer
	prefix   string
	sequence uint64
	pending  chan time.Time
}

const (
	opStart  = 0
	opAppend = 1
	opEnd    = 3 // a commit that brings no message of its own
)

type flowAck struct {
	Type     string              `json:"type"`
	Sequence uint64              `json:"seq"`
	Count    uint64              `json:"count"`
	Error    *jetstream.APIError `json:"error"`
}

func newFastBatch(p *natsPeer, acked Acked) (Sender, error) {
	batch := &fastBatch{peer: p, prefix: nats.NewInbox(), pending: make(chan time.Time, 1<<20)}
	var upTo uint64
	_, err := p.conn.Subscribe(batch.prefix+".>", func(message *nats.Msg) {
		var ack flowAck
		err := json.Unmarshal(message.Data, &ack)
		switch {
		case err != nil:
		case ack.Error != nil:
			err = ack.Error
		case ack.Type == "gap":
			err = fmt.Errorf("the batch has a gap: %s", message.Data)
		case ack.Type == "":
			ack.Sequence = ack.Count // the end of the batch
		}
		if err != nil {
			acked(time.Time{}, err)
			return
		}
		for ; upTo < ack.Sequence; upTo++ {
			acked(<-batch.pending, nil)
		}
	})
	return batch, err
}

// Acks come once for this many messages, and the window must hold some of those.
const fastBatchFlow = 200

func (b *fastBatch) publish(op int, value []byte) error {
	b.sequence++
	reply := fmt.Sprintf("%s.%d.fail.%d.%d.$FI", b.prefix, fastBatchFlow, b.sequence, op)
	return b.peer.conn.PublishMsg(&nats.Msg{Subject: b.peer.name, Reply: reply, Data: value})
}

func (b *fastBatch) Send(value []byte, begun time.Time) error {
	b.pending <- begun
	if b.sequence == 0 {
		return b.publish(opStart, value)
	}
	return b.publish(opAppend, value)
}

func (b *fastBatch) End() error { return b.publish(opEnd, nil) }

func (b *fastBatch) Close() {}
