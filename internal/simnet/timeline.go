package simnet

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"qcitycoin.org/qcity/node/types"
)

// timeline is what happened, for a person who asks why a run failed.
type timeline struct {
	start time.Time
	mu    sync.Mutex
	list  []event
	cut   int
}

// event is one line; several nodes may see the same.
type event struct {
	at   time.Duration
	who  []string
	text string
}

// maxEvents is what is kept, the newest. One is told again of several nodes
// only if they are not more than lately apart.
const maxEvents, lately = 300, 12

func (l *timeline) add(who, format string, args ...any) {
	e := event{time.Since(l.start).Round(time.Second), []string{who}, fmt.Sprintf(format, args...)}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.list) - 1; i >= max(0, len(l.list)-lately); i-- {
		if old := &l.list[i]; old.text == e.text && e.at-old.at <= time.Second {
			old.who = append(old.who, who)
			return
		}
	}
	if len(l.list) >= maxEvents {
		l.list = append(l.list[:0], l.list[1:]...)
		l.cut++
	}
	l.list = append(l.list, e)
}

func (l *timeline) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "timeline (%d earlier lines left out):\n", l.cut)
	for _, e := range l.list {
		slices.Sort(e.who)
		fmt.Fprintf(&b, "%9s  %-15s %s\n", e.at, strings.Join(slices.Compact(e.who), " "), e.text)
	}
	return b.String()
}

// lines is a slog.Handler that writes what a node warns of into the timeline.
type lines struct {
	log *timeline
	who string
}

func (h lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (h lines) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		text := a.Value.String()
		fmt.Fprintf(&b, " %s=%.120s", a.Key, text)
		return true
	})
	h.log.add(h.who, "%s", b.String())
	return nil
}

func (h lines) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h lines) WithGroup(string) slog.Handler      { return h }

// short returns the end of an id, which differs between blocks.
func short(id types.Hash) string { return id.String()[56:] }
