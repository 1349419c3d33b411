// Command load puts the same work on each peer that has a client in Go, and prints one JSON object of figures.
//
// `load PEER -work produce|consume|failover …`; the program that starts the peers calls it, see benches/compare/main.rs.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// Peer is one system under load.
type Peer interface {
	// Prepare makes a stream, a queue or a key range that no other run has used.
	Prepare() error
	// Sender is what records go through; acked is called once for each, from any goroutine.
	Sender(acked Acked) (Sender, error)
	// Read reads the first n records from the start.
	Read(n int) error
	// Leader tells which of the servers, counted from 0, leads what Prepare made.
	Leader() (int, error)
	// Remove removes what Prepare made.
	Remove() error
}

// Acked is told that the record which was begun then is acknowledged, or why it will never be.
type Acked func(begun time.Time, err error)

// Sender sends records; it may block while its own window is full.
type Sender interface {
	Send(value []byte, begun time.Time) error
	// End sends what still waits for company; nothing is sent after it.
	End() error
	Close()
}

// Load is what the command line asks for.
type Load struct {
	work        string
	recordBytes int
	inFlight    int
	rate        int
	seconds     time.Duration
	warmUp      time.Duration
	recordsMax  int
	servers     []string
	pids        []string
	batches     bool
	dir         string
	node        int
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("name a peer: nats, etcd, rabbitmq or hashicorp"))
	}
	load, err := parse(os.Args[2:])
	if err != nil {
		fail(err)
	}
	figures, err := run(os.Args[1], load)
	if err != nil {
		fail(err)
	}
	if figures != nil {
		_ = json.NewEncoder(os.Stdout).Encode(figures)
	}
}

func parse(args []string) (Load, error) {
	var load Load
	var seconds, warmUp float64
	var servers, pids string
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	flags.StringVar(&load.work, "work", "produce", "produce, consume or failover")
	flags.IntVar(&load.recordBytes, "record-bytes", 1024, "bytes of a record")
	flags.IntVar(&load.inFlight, "in-flight", 1, "records in flight")
	flags.IntVar(&load.rate, "rate", 0, "records per second, sent when due; 0 for as many as -in-flight lets go")
	flags.Float64Var(&seconds, "seconds", 3, "time measured")
	flags.Float64Var(&warmUp, "warm-up", 1, "time before it")
	flags.IntVar(&load.recordsMax, "records-max", 500_000, "consume: records written before they are read, at most")
	flags.StringVar(&servers, "servers", "", "addresses, with commas between them")
	flags.StringVar(&pids, "pids", "", "failover: processes of the servers, in their order")
	flags.BoolVar(&load.batches, "batches", false, "nats: publish by fast-ingest batches")
	flags.StringVar(&load.dir, "dir", "", "hashicorp: folder of this node")
	flags.IntVar(&load.node, "node", 0, "hashicorp: number of this node, from 0; node 0 is the one that leads and makes the load")
	if err := flags.Parse(args); err != nil {
		return load, err
	}
	if load.recordBytes < 1 || load.inFlight < 1 || seconds <= 0 || servers == "" {
		return load, fmt.Errorf("-record-bytes, -in-flight and -seconds must be above 0, and -servers be given")
	}
	load.seconds = time.Duration(seconds * float64(time.Second))
	load.warmUp = time.Duration(warmUp * float64(time.Second))
	load.servers = strings.Split(servers, ",")
	load.pids = strings.Split(pids, ",")
	return load, nil
}

func run(name string, load Load) (*Figures, error) {
	var peer Peer
	var err error
	switch name {
	case "nats":
		peer, err = connectNats(load)
	case "etcd":
		peer, err = connectEtcd(load)
	case "rabbitmq":
		peer, err = connectRabbit(load)
	case "hashicorp":
		peer, err = startRaft(load)
	default:
		return nil, fmt.Errorf("unknown peer %q", name)
	}
	if err != nil {
		return nil, err
	}
	if peer == nil {
		return nil, nil
	}
	if err := peer.Prepare(); err != nil {
		return nil, err
	}
	figures, err := measure(peer, load)
	if err != nil {
		return nil, err
	}
	return figures, peer.Remove()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "load:", err)
	os.Exit(1)
}
