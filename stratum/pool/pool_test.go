package pool

import (
	"testing"
	"time"

	"qcitycoin.org/qcity/miner/work"
)

func TestSeenStaysBounded(t *testing.T) {
	s := NewSeen(100)
	hash := func(i int) (h [32]byte) { h[0], h[1] = byte(i), byte(i>>8); return h }
	for i := range 10_000 {
		if !s.Add(hash(i)) {
			t.Fatalf("share %d is no duplicate", i)
		}
		if n := len(s.now) + len(s.old); n > 100 {
			t.Fatalf("%d entries", n)
		}
		if i > 50 && s.Add(hash(i-50)) {
			t.Fatalf("share %d forgotten after 50 more", i-50)
		}
	}
	s.Reset([32]byte{1})
	if s.Add(hash(9_999)) {
		t.Error("shares of the parent before are forgotten at once")
	}
	s.Reset([32]byte{2})
	if !s.Add(hash(9_999)) {
		t.Error("shares of an old parent are kept")
	}
}

func TestHashRateEstimate(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	var r rate
	r.fade(now)
	for range 2 * 3600 { // one share of difficulty 2 a second for two hours
		now = now.Add(time.Second)
		r.add(now, 2)
	}
	want := 2 * work.HashesPerDifficulty
	got := r.estimate(now)
	for name, v := range map[string]float64{"minute": got.Minute, "ten minutes": got.TenMinutes, "hour": got.Hour} {
		if v < 0.97*want || v > 1.03*want {
			t.Errorf("%s: %v, want about %v", name, v, want)
		}
	}
	if idle := r.estimate(now.Add(10 * time.Minute)); idle.Minute > 0.001*want || idle.Hour < 0.7*want {
		t.Errorf("ten idle minutes later: %+v", idle)
	}
}
