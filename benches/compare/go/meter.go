package main

import (
	"math/bits"
	"sync"
	"time"
)

// Figures is what is printed: the same names and units as `plimsoll bench -o json`.
type Figures struct {
	Records    int      `json:"records"`
	Bytes      int      `json:"bytes"`
	Seconds    float64  `json:"seconds"`
	RecordsPer float64  `json:"records_per_s"`
	MBPer      float64  `json:"mb_per_s"`
	Latency    *Latency `json:"latency_ms"`
}

// Latency of acks, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func newFigures(records, recordBytes int, took time.Duration, latency *Latency) *Figures {
	perSecond := float64(records) / took.Seconds()
	return &Figures{
		Records: records, Bytes: records * recordBytes, Seconds: took.Seconds(),
		RecordsPer: perSecond, MBPer: perSecond * float64(recordBytes) / 1e6, Latency: latency,
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Buckets below each power of two: within 1 % of the value.
const subBits = 7

// meter counts within its window: throughput what was done in it, latency what began in it, however late it was done.
type meter struct {
	begins, ends time.Time
	mu           sync.Mutex
	records      int
	counts       [64 << subBits]int
	timed        int
	max          time.Duration
}

func newMeter(warmUp, seconds time.Duration) *meter {
	begins := time.Now().Add(warmUp)
	return &meter{begins: begins, ends: begins.Add(seconds)}
}

func (m *meter) holds(at time.Time) bool { return !at.Before(m.begins) && at.Before(m.ends) }

func (m *meter) count(begun, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holds(now) {
		m.records++
	}
	if m.holds(begun) {
		took := now.Sub(begun)
		m.counts[bucket(uint64(took))]++
		m.timed++
		m.max = max(m.max, took)
	}
}

func bucket(ns uint64) int {
	if ns < 1<<subBits {
		return int(ns)
	}
	shift := bits.Len64(ns) - subBits - 1
	return (shift+1)<<subBits + int(ns>>shift) - 1<<subBits
}

// highest is the greatest value that falls into a bucket.
func highest(bucket int) time.Duration {
	if bucket < 1<<subBits {
		return time.Duration(bucket)
	}
	shift := bucket>>subBits - 1
	low := (1<<subBits + bucket&(1<<subBits-1)) << shift
	return time.Duration(low + 1<<shift - 1)
}

func (m *meter) quantile(share float64) time.Duration {
	rank, seen := int(share*float64(m.timed)+0.5), 0
	for i, n := range m.counts {
		if seen += n; n > 0 && seen >= rank {
			return min(highest(i), m.max)
		}
	}
	return m.max
}

func (m *meter) figures(recordBytes int) *Figures {
	m.mu.Lock()
	defer m.mu.Unlock()
	latency := &Latency{P50: ms(m.quantile(0.5)), P99: ms(m.quantile(0.99)), Max: ms(m.max)}
	return newFigures(m.records, recordBytes, m.ends.Sub(m.begins), latency)
}
