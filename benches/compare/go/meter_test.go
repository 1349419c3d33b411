package main

import (
	"testing"
	"time"
)

func TestBucketHoldsItsValuesWithinOnePercent(t *testing.T) {
	for ns := uint64(1); ns < 1<<40; ns = ns*9/8 + 1 {
		at := bucket(ns)
		high := uint64(highest(at))
		if high < ns || float64(high) > float64(ns)*1.01 {
			t.Fatalf("%d ns is in a bucket up to %d", ns, high)
		}
		if bucket(high) != at || bucket(high+1) != at+1 {
			t.Fatalf("%d is not the highest of bucket %d", high, at)
		}
	}
}

func TestThroughputCountsWhatIsDoneInTheWindowAndLatencyWhatBeginsInIt(t *testing.T) {
	m := newMeter(time.Second, 10*time.Second)
	at := func(ms int) time.Time {
		return m.begins.Add(time.Duration(ms-1000) * time.Millisecond)
	}
	for _, times := range [][2]int{{500, 900}, {900, 1100}, {1500, 1510}, {10900, 11400}, {11200, 11300}} {
		m.count(at(times[0]), at(times[1]))
	}
	figures := m.figures(1000)
	if figures.Records != 2 || m.timed != 2 {
		t.Fatalf("done in the window: %d, begun in it: %d", figures.Records, m.timed)
	}
	if figures.Latency.Max != 500 || figures.Latency.P50 < 10 || figures.Latency.P50 > 10.1 {
		t.Fatalf("%+v", *figures.Latency)
	}
}
