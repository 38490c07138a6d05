package horizon

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// snapshot is a state with what was worked out from it. It is never changed.
type snapshot struct {
	state  State
	at     time.Time // when the state was taken; zero if there was none yet
	flow   Flow
	points []Point
	err    string // why the newest state could not be had
}

// watcher asks the Source: often while somebody looks, now and then while nobody does.
// Its goroutine (run) owns the history; the rest is guarded by mu.
type watcher struct {
	source  Source
	log     *slog.Logger
	often   time.Duration
	seldom  time.Duration
	wait    time.Duration // for one answer
	history history
	poke    chan struct{} // capacity 1: ask now

	mu      sync.Mutex
	snap    snapshot
	asked   int  // how often the Source answered, well or not
	old     bool // something was changed after snap
	viewers map[chan struct{}]bool
}

func newWatcher(source Source, log *slog.Logger) *watcher {
	return &watcher{source: source, log: log, often: time.Second, seldom: slot, wait: 5 * time.Second,
		poke: make(chan struct{}, 1), viewers: map[chan struct{}]bool{}}
}

// run asks until the context ends.
func (w *watcher) run(ctx context.Context) {
	for {
		w.ask(ctx)
		pause := w.seldom
		if w.watched() {
			pause = w.often
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case <-w.poke:
			t.Stop()
		}
	}
}

func (w *watcher) ask(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, w.wait)
	defer cancel()
	state, err := w.source.State(limited)
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	w.old = false
	if err != nil {
		if w.snap.err == "" {
			w.log.Warn("horizon: the state of the drive", "error", err)
		}
		w.snap.err = err.Error()
	} else {
		now := time.Now()
		w.history.add(now, state)
		w.snap = snapshot{state: state, at: now, flow: w.history.flow(), points: slices.Clone(w.history.points)}
	}
	for c := range w.viewers {
		select {
		case c <- struct{}{}:
		default: // it has not looked at the last one yet
		}
	}
}

func (w *watcher) now() (_ snapshot, asked int, old bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.snap, w.asked, w.old
}

// changed says that what is known is old.
func (w *watcher) changed() {
	w.mu.Lock()
	w.old = true
	w.mu.Unlock()
	w.hurry()
}

func (w *watcher) watched() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.viewers) > 0
}

// view registers somebody who looks: news come on the channel until end is called.
func (w *watcher) view() (news <-chan struct{}, end func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	w.viewers[c] = true
	w.mu.Unlock()
	w.hurry()
	return c, func() {
		w.mu.Lock()
		delete(w.viewers, c)
		w.mu.Unlock()
	}
}

func (w *watcher) hurry() {
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// fresh is a state taken after the call, or the newest if none comes in time.
func (w *watcher) fresh(ctx context.Context) snapshot {
	ctx, cancel := context.WithTimeout(ctx, w.wait+time.Second)
	defer cancel()
	before, asked, old := w.now()
	if !old && time.Since(before.at) < w.often/2 && before.err == "" {
		return before
	}
	news, end := w.view()
	defer end()
	for {
		select {
		case <-news:
			// The answer to a question that was already under way counts for little.
			if s, n, _ := w.now(); n > asked {
				return s
			}
		case <-ctx.Done():
			s, _, _ := w.now()
			return s
		}
	}
}
