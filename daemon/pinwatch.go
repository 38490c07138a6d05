package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/fs"
)

// pinLook is what Egress had pinned for the vault at one time. All of it was written by
// whoever has the password of Egress: nothing of it is true before a head has verified.
type pinLook struct {
	begun time.Time // before Egress was asked
	pins  []pinned  // of all devices, by sequence, the newest first
	// meet connects the node to the peers of Egress, once a look. Call it before blocks of
	// a commit are read.
	meet func(context.Context) error
}

// pinJudge draws its conclusions from one look. Judges run one after the other, and never
// two looks at the same time. After an error the look does not count: the drive does not
// say that anything is stored on the strength of it.
type pinJudge func(ctx context.Context, l *pinLook) error

const (
	lookWait   = 30 * time.Second // that one look may take, with what its judges fetch
	firstWait  = 5 * time.Second  // that a mount waits for the list
	lookGap    = 10 * time.Second // between two looks that nobody waits for
	hurriedGap = time.Second      // between two looks for which somebody waits
)

// pinWatch looks regularly at what Egress has pinned for a vault. Commits of other machines
// are seen there first: those of other devices, and those of a second machine that has the
// keys of this one.
//
// A drive says that a commit is stored only after a look that began when its copies were
// there already: otherwise two machines could both say so, and a restore would find the
// commits of one of them.
type pinWatch struct {
	client *cluster.Client
	store  fs.Store
	vault  string
	every  time.Duration
	log    *slog.Logger
	judges []pinJudge    // while the drive is mounted; set before run
	wanted chan struct{} // capacity 1: somebody wants a look
	turn   chan struct{} // capacity 1: held while a look is made

	mu      sync.Mutex
	good    time.Time // when the last look that counts began
	begun   time.Time // the last one, whether it counts or not
	hurry   bool      // somebody waits
	err     error     // of the last look
	failing time.Time // since when looks have failed
	news    chan struct{}
}

// newPinWatch returns nil if there is no Egress.
func newPinWatch(h Home, c Config, store fs.Store, vault string, log *slog.Logger) (*pinWatch, error) {
	client, err := egressClient(h, c, log)
	if client == nil || err != nil {
		return nil, err
	}
	return &pinWatch{client: client, store: store, vault: vault, every: c.Egress.CheckEvery.Duration, log: log,
		wanted: make(chan struct{}, 1), turn: make(chan struct{}, 1), news: make(chan struct{})}, nil
}

// close is called after run has ended.
func (w *pinWatch) close() {
	if w != nil {
		w.client.Close()
	}
}

// look asks Egress once, and lets the judges see the answer. What it fails with has the
// meaning of egressError, or is a judge's. listWait bounds the question alone.
func (w *pinWatch) look(ctx context.Context, listWait time.Duration, judges ...pinJudge) error {
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	begun := time.Now()
	w.mu.Lock()
	w.begun, w.hurry = begun, false
	w.mu.Unlock()
	err := w.ask(ctx, begun, listWait, judges)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.good, w.failing = begun, time.Time{}
	case w.failing.IsZero():
		w.failing = begun
	}
	w.err = err
	close(w.news)
	w.news = make(chan struct{})
	return err
}

func (w *pinWatch) ask(ctx context.Context, begun time.Time, listWait time.Duration, judges []pinJudge) error {
	list, cancel := context.WithTimeout(ctx, listWait)
	found, err := w.client.Find(list, vaultKey, w.vault)
	cancel()
	if err != nil {
		return egressError(err)
	}
	met := false
	l := &pinLook{begun: begun, pins: vaultsOf(found)[w.vault], meet: func(ctx context.Context) error {
		if met {
			return nil
		}
		err := meetPeers(ctx, w.store, w.client)
		met = err == nil
		return err
	}}
	var all error
	for _, judge := range judges {
		all = errors.Join(all, judge(ctx, l))
	}
	return all
}

// run looks until ctx ends: regularly, and when it is wanted.
func (w *pinWatch) run(ctx context.Context) {
	timer := time.NewTimer(w.every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-w.wanted:
			if d := w.pause(); d > 0 {
				timer.Reset(d)
				continue
			}
		}
		if err := w.look(ctx, lookWait, w.judges...); err != nil && ctx.Err() == nil {
			w.log.Info("looking for commits of other machines in Egress", "error", err)
		}
		timer.Reset(w.every)
	}
}

// pause is how long the next look has to wait.
func (w *pinWatch) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	gap := min(lookGap, w.every)
	if w.hurry {
		gap = hurriedGap
	}
	return min(w.every, gap-time.Since(w.begun))
}

// want asks for a look soon, or at once if somebody waits for it.
func (w *pinWatch) want(hurry bool) {
	w.mu.Lock()
	w.hurry = w.hurry || hurry
	w.mu.Unlock()
	select {
	case w.wanted <- struct{}{}:
	default:
	}
}

// lookedSince tells whether a look that counts began after a time, and is not too old to
// say anything by it.
func (w *pinWatch) lookedSince(t time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.good.Before(t) && time.Since(w.good) < 4*w.every+lookWait
}

// trouble says since when and why looks have failed; "" if they do not.
func (w *pinWatch) trouble() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		return ""
	}
	return fmt.Sprintf("since %s Egress could not be asked whether another machine writes this drive: %v", w.failing.Local().Format(time.TimeOnly), w.err)
}

// looked is closed when the next look has ended.
func (w *pinWatch) looked() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.news
}
