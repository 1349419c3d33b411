package main

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/v3"
)

// Connections that share the load: one HTTP/2 connection is not the bottleneck to measure.
const etcdConnections = 8

// Keys of one prefix, one a record. A client call takes one record.
type etcdPeer struct {
	load    Load
	clients []*clientv3.Client
	prefix  string
}

func connectEtcd(load Load) (Peer, error) {
	peer := &etcdPeer{load: load, prefix: fmt.Sprintf("load-%d/", time.Now().UnixNano())}
	return peer, peer.connect(1, load.servers)
}

func (p *etcdPeer) connect(connections int, servers []string) error {
	for range connections {
		client, err := clientv3.New(clientv3.Config{Endpoints: servers, DialTimeout: 10 * time.Second, MaxCallRecvMsgSize: 64 << 20})
		if err != nil {
			return err
		}
		p.clients = append(p.clients, client)
	}
	return nil
}

func (p *etcdPeer) Prepare() error {
	if _, err := p.clients[0].Put(within(30*time.Second), p.prefix, ""); err != nil || p.load.work == "failover" {
		return err
	}
	// Talking to the leader saves the load a hop between servers.
	leader, err := p.Leader()
	if err != nil {
		return err
	}
	_ = p.clients[0].Close()
	p.clients = nil
	return p.connect(min(etcdConnections, max(p.load.inFlight, p.load.rate/100)), p.load.servers[leader:leader+1])
}

func (p *etcdPeer) Remove() error {
	_, err := p.clients[0].Delete(within(patience), p.prefix, clientv3.WithPrefix())
	return err
}

func (p *etcdPeer) Leader() (int, error) {
	for i, server := range p.load.servers {
		status, err := p.clients[0].Status(within(5*time.Second), server)
		if err == nil && status.Leader == status.Header.MemberId {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no server says that it leads")
}

// Read pages through the keys, a thousand at a time.
func (p *etcdPeer) Read(n int) error {
	end := clientv3.GetPrefixRangeEnd(p.prefix)
	for key, read := p.prefix, 0; read < n; {
		reply, err := p.clients[0].Get(within(patience), key, clientv3.WithRange(end), clientv3.WithLimit(1000), clientv3.WithSerializable())
		if err != nil {
			return err
		}
		if len(reply.Kvs) == 0 {
			return fmt.Errorf("only %d of %d keys are there", read, n)
		}
		read += len(reply.Kvs)
		key = string(reply.Kvs[len(reply.Kvs)-1].Key) + "\x00"
	}
	return nil
}

func (p *etcdPeer) Sender(acked Acked) (Sender, error) {
	return &etcdSender{peer: p, acked: acked}, nil
}

type etcdSender struct {
	peer  *etcdPeer
	acked Acked
	next  int
}

func (s *etcdSender) Send(value []byte, begun time.Time) error {
	s.next++
	client, key := s.peer.clients[s.next%len(s.peer.clients)], fmt.Sprintf("%s%012d", s.peer.prefix, s.next)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := client.Put(ctx, key, string(value))
		s.acked(begun, err)
	}()
	return nil
}

func (s *etcdSender) End() error { return nil }

func (s *etcdSender) Close() {}
