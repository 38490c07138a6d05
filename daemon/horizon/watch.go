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

	mu       sync.Mutex
	snap     snapshot
	begun    int // questions put to the Source
	answered int // the number of the newest that it answered, well or not
	due      int // the number of the first that knows of the newest change
	viewers  map[chan struct{}]bool
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
	w.mu.Lock()
	w.begun++
	number := w.begun
	w.mu.Unlock()
	state, err := w.source.State(limited)
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = number
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

func (w *watcher) now() snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.snap
}

// changed says that what is known is old, and so is the answer to a question under way.
func (w *watcher) changed() {
	w.mu.Lock()
	w.due = w.begun + 1
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

// fresh is a state taken after the call, or a moment before it with no change since; or
// the newest, if none comes in time.
func (w *watcher) fresh(ctx context.Context) snapshot {
	ctx, cancel := context.WithTimeout(ctx, w.wait+time.Second)
	defer cancel()
	w.mu.Lock()
	snap, next, known := w.snap, w.begun+1, w.answered >= w.due
	w.mu.Unlock()
	if known && time.Since(snap.at) < w.often/2 && snap.err == "" {
		return snap
	}
	news, end := w.view()
	defer end()
	for {
		select {
		case <-news:
			// The answer to a question that was under way already does not count.
			w.mu.Lock()
			snap, answered := w.snap, w.answered
			w.mu.Unlock()
			if answered >= next {
				return snap
			}
		case <-ctx.Done():
			return w.now()
		}
	}
}
