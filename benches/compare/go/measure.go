package main

import (
	"fmt"
	"math/rand"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Time within which everything that is under way must have been acknowledged.
const patience = 60 * time.Second

// Time given to filling a log before it is read.
const fillFor = 3 * time.Second

func measure(peer Peer, load Load) (*Figures, error) {
	switch load.work {
	case "produce":
		return produce(peer, load)
	case "consume":
		return consume(peer, load)
	case "failover":
		return failover(peer, load)
	}
	return nil, fmt.Errorf("unknown work %q", load.work)
}

// window counts what is under way, and ends the run on the first record that fails.
type window struct {
	room    chan struct{}
	pending sync.WaitGroup
	failed  atomic.Value
}

func newWindow(records int) *window {
	return &window{room: make(chan struct{}, records)}
}

func (w *window) enter() {
	w.room <- struct{}{}
	w.pending.Add(1)
}

func (w *window) leave(err error) {
	if err != nil {
		w.failed.CompareAndSwap(nil, err)
	}
	<-w.room
	w.pending.Done()
}

func (w *window) err() error {
	if err, ok := w.failed.Load().(error); ok {
		return err
	}
	return nil
}

// drain waits until all is acknowledged.
func (w *window) drain(sender Sender) error {
	if err := sender.End(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { w.pending.Wait(); close(done) }()
	select {
	case <-done:
		return w.err()
	case <-time.After(patience):
		return fmt.Errorf("records were not acknowledged within %v", patience)
	}
}

func produce(peer Peer, load Load) (*Figures, error) {
	meter := newMeter(load.warmUp, load.seconds)
	inFlight := load.inFlight
	if load.rate > 0 {
		// What is not acknowledged piles up here; more than this many seconds of it is an overload that the figures show anyway.
		inFlight = 30 * load.rate
	}
	window := newWindow(inFlight)
	sender, err := peer.Sender(func(begun time.Time, err error) {
		if err == nil {
			meter.count(begun, time.Now())
		}
		window.leave(err)
	})
	if err != nil {
		return nil, err
	}
	defer sender.Close()
	value := randomBytes(load.recordBytes)
	beat := newBeat(load.rate)
	for window.err() == nil {
		begun := beat.next()
		if !begun.Before(meter.ends) {
			break
		}
		window.enter()
		if load.rate == 0 {
			begun = time.Now()
		}
		if err := sender.Send(value, begun); err != nil {
			return nil, err
		}
	}
	if err := window.drain(sender); err != nil {
		return nil, err
	}
	return meter.figures(load.recordBytes), nil
}

// consume fills the log, then reads it from its start, again and again.
func consume(peer Peer, load Load) (*Figures, error) {
	window := newWindow(load.inFlight)
	sender, err := peer.Sender(func(_ time.Time, err error) { window.leave(err) })
	if err != nil {
		return nil, err
	}
	value := randomBytes(load.recordBytes)
	records := 0
	for began := time.Now(); records < load.recordsMax && time.Since(began) < fillFor && window.err() == nil; records++ {
		window.enter()
		if err := sender.Send(value, began); err != nil {
			return nil, err
		}
	}
	if err := window.drain(sender); err != nil {
		return nil, err
	}
	sender.Close()
	if err := peer.Read(records); err != nil { // to warm up
		return nil, err
	}
	read, began := 0, time.Now()
	for time.Since(began) < load.seconds {
		if err := peer.Read(records); err != nil {
			return nil, err
		}
		read += records
	}
	return newFigures(read, load.recordBytes, time.Since(began), nil), nil
}

// failover sends a record each millisecond, kills the leader, and waits for the ack of a record sent after that.
func failover(peer Peer, load Load) (*Figures, error) {
	leader, err := peer.Leader()
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(load.pids[leader])
	if err != nil {
		return nil, fmt.Errorf("-pids must name the process of each server: %w", err)
	}
	acked := make(chan time.Time, 1<<16)
	sender, err := peer.Sender(func(begun time.Time, err error) {
		if err == nil {
			acked <- begun
		}
	})
	if err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	defer close(stop)
	value := randomBytes(load.recordBytes)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_ = sender.Send(value, time.Now()) // the service may be away: that is what is measured
			}
		}
	}()
	time.Sleep(load.warmUp)
	killed := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return nil, err
	}
	for {
		select {
		case begun := <-acked:
			if begun.After(killed) {
				gap := time.Since(killed)
				return newFigures(0, load.recordBytes, gap, &Latency{P50: ms(gap), P99: ms(gap), Max: ms(gap)}), nil
			}
		case <-time.After(patience):
			return nil, fmt.Errorf("no ack within %v of the kill", patience)
		}
	}
}

// beat tells when each record is due.
type beat struct {
	period time.Duration
	due    time.Time
}

func newBeat(rate int) *beat {
	beat := &beat{due: time.Now()}
	if rate > 0 {
		beat.period = time.Second / time.Duration(rate)
	}
	return beat
}

// next waits until the next record is due. The system's own sleep is finer than the runtime's timers, which round to a millisecond.
func (b *beat) next() time.Time {
	if b.period == 0 {
		return time.Now()
	}
	due := b.due
	b.due = due.Add(b.period)
	if early := time.Until(due); early > 0 {
		span := syscall.NsecToTimespec(early.Nanoseconds())
		_ = syscall.Nanosleep(&span, nil)
	}
	return due
}

func randomBytes(n int) []byte {
	value := make([]byte, n)
	random := rand.New(rand.NewSource(1))
	for i := range value {
		value[i] = byte('a' + random.Intn(26))
	}
	return value
}
