package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// A node of a group of three, each a process of its own. The load is made inside the process of the leader: there is no hop from a client.
type raftPeer struct {
	load  Load
	raft  *raft.Raft
	store *wal.WAL
}

// startRaft runs a node. Node 0 founds the group and returns as its leader; the others return nil when their standard input ends.
func startRaft(load Load) (Peer, error) {
	if load.dir == "" || load.node < 0 || load.node >= len(load.servers) {
		return nil, fmt.Errorf("-dir and -node must be given")
	}
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: os.Stderr})
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(load.servers[load.node])
	config.Logger = logger
	config.BatchApplyCh = true
	config.MaxAppendEntries = 1024
	config.SnapshotThreshold = 1 << 40 // no snapshots beside the load
	if load.node > 0 {
		// Node 0 shall lead.
		config.HeartbeatTimeout, config.ElectionTimeout = 10*time.Second, 10*time.Second
	}
	if err := os.MkdirAll(filepath.Join(load.dir, "wal"), 0o755); err != nil {
		return nil, err
	}
	store, err := wal.Open(filepath.Join(load.dir, "wal"), wal.WithLogger(logger))
	if err != nil {
		return nil, err
	}
	cache, err := raft.NewLogCache(4096, store)
	if err != nil {
		return nil, err
	}
	address, err := net.ResolveTCPAddr("tcp", load.servers[load.node])
	if err != nil {
		return nil, err
	}
	transport, err := raft.NewTCPTransportWithLogger(load.servers[load.node], address, 3, 10*time.Second, logger)
	if err != nil {
		return nil, err
	}
	node, err := raft.NewRaft(config, discard{}, cache, store, raft.NewDiscardSnapshotStore(), transport)
	if err != nil {
		return nil, err
	}
	if load.node > 0 {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return nil, nil
	}
	var group raft.Configuration
	for _, server := range load.servers {
		group.Servers = append(group.Servers, raft.Server{ID: raft.ServerID(server), Address: raft.ServerAddress(server)})
	}
	if err := node.BootstrapCluster(group).Error(); err != nil {
		return nil, err
	}
	return &raftPeer{load: load, raft: node, store: store}, nil
}

func (p *raftPeer) Prepare() error {
	for began := time.Now(); p.raft.State() != raft.Leader; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > patience {
			return fmt.Errorf("node 0 does not lead within %v", patience)
		}
	}
	return p.raft.Barrier(patience).Error()
}

func (p *raftPeer) Remove() error { return nil }

func (p *raftPeer) Leader() (int, error) {
	return 0, fmt.Errorf("the load runs in the leader's process")
}

func (p *raftPeer) Read(n int) error { return fmt.Errorf("a library has no readers") }

func (p *raftPeer) Sender(acked Acked) (Sender, error) {
	sender := &raftSender{raft: p.raft, sent: make(chan raftSent, 1<<20)}
	go func() {
		for sent := range sender.sent {
			acked(sent.begun, sent.future.Error())
		}
	}()
	return sender, nil
}

type raftSent struct {
	future raft.ApplyFuture
	begun  time.Time
}

type raftSender struct {
	raft *raft.Raft
	sent chan raftSent
}

func (s *raftSender) Send(value []byte, begun time.Time) error {
	s.sent <- raftSent{s.raft.Apply(value, patience), begun}
	return nil
}

func (s *raftSender) End() error { return nil }

func (s *raftSender) Close() { close(s.sent) }

// discard is a state machine that keeps nothing, told of whole batches.
type discard struct{}

func (discard) Apply(*raft.Log) any { return nil }

func (discard) ApplyBatch(logs []*raft.Log) []any { return make([]any, len(logs)) }

func (discard) Snapshot() (raft.FSMSnapshot, error) { return nil, fmt.Errorf("not used") }

func (discard) Restore(state io.ReadCloser) error { return state.Close() }
