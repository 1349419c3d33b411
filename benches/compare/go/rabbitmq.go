package main

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/rabbitmq-stream-go-client/pkg/amqp"
	"github.com/rabbitmq/rabbitmq-stream-go-client/pkg/stream"
)

// A stream on every node. The client packs what is waiting into one frame by itself.
type rabbitPeer struct {
	load Load
	env  *stream.Environment
	name string
}

func connectRabbit(load Load) (Peer, error) {
	var uris []string
	for _, server := range load.servers {
		uris = append(uris, "rabbitmq-stream://guest:guest@"+server)
	}
	options := stream.NewEnvironmentOptions().SetUris(uris).SetRPCTimeout(30 * time.Second)
	env, err := stream.NewEnvironment(options)
	if err != nil {
		return nil, err
	}
	return &rabbitPeer{load: load, env: env, name: fmt.Sprintf("load-%d", time.Now().UnixNano())}, nil
}

func (p *rabbitPeer) Prepare() error {
	if err := p.env.DeclareStream(p.name, stream.NewStreamOptions()); err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < patience; time.Sleep(50 * time.Millisecond) {
		about, err := p.env.StreamMetaData(p.name)
		if err == nil && about.Leader != nil && len(about.Replicas) == len(p.load.servers)-1 {
			return nil
		}
	}
	return fmt.Errorf("the stream has no replica on every node after %v", patience)
}

func (p *rabbitPeer) Remove() error {
	if err := p.env.DeleteStream(p.name); err != nil {
		return err
	}
	return p.env.Close()
}

func (p *rabbitPeer) Leader() (int, error) {
	about, err := p.env.StreamMetaData(p.name)
	if err != nil {
		return 0, err
	}
	for i, server := range p.load.servers {
		if server == fmt.Sprintf("%s:%s", about.Leader.Host, about.Leader.Port) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("the leader %s:%s is none of the servers", about.Leader.Host, about.Leader.Port)
}

func (p *rabbitPeer) Read(n int) error {
	var read atomic.Int64
	done := make(chan struct{})
	handler := func(stream.ConsumerContext, *amqp.Message) {
		if read.Add(1) == int64(n) {
			close(done)
		}
	}
	options := stream.NewConsumerOptions().SetOffset(stream.OffsetSpecification{}.First()).SetInitialCredits(50).SetCRCCheck(false)
	consumer, err := p.env.NewConsumer(p.name, handler, options)
	if err != nil {
		return err
	}
	select {
	case <-done:
		return consumer.Close()
	case <-time.After(patience):
		return fmt.Errorf("%d of %d records came within %v", read.Load(), n, patience)
	}
}

func (p *rabbitPeer) Sender(acked Acked) (Sender, error) {
	options := stream.NewProducerOptions().SetConfirmationTimeOut(patience)
	if p.load.batches {
		options = options.SetSubEntrySize(subEntry)
	}
	producer, err := p.env.NewProducer(p.name, options)
	if err != nil {
		return nil, err
	}
	sender := &rabbitSender{producer: producer, pending: make(chan time.Time, 1<<20)}
	confirmed := producer.NotifyPublishConfirmation()
	go func() {
		for statuses := range confirmed {
			for _, status := range statuses {
				begun := <-sender.pending
				if status.IsConfirmed() {
					acked(begun, nil)
				} else {
					acked(begun, fmt.Errorf("not confirmed: code %d", status.GetErrorCode()))
				}
			}
		}
	}()
	return sender, nil
}

// Messages that share one entry of the stream, where batches are asked for.
const subEntry = 100

type rabbitSender struct {
	producer *stream.Producer
	pending  chan time.Time
}

func (s *rabbitSender) Send(value []byte, begun time.Time) error {
	s.pending <- begun
	return s.producer.Send(amqp.NewMessage(value))
}

func (s *rabbitSender) End() error { return nil }

func (s *rabbitSender) Close() { _ = s.producer.Close() }
