package daemon

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/cluster-labs/ipfscloud/daemon/horizon"
)

// keepFailures is how many warnings and errors of the log are kept for the page.
const keepFailures = 50

// failures is a log handler that passes all on, and keeps the newest warnings and errors.
type failures struct {
	slog.Handler
	attrs []slog.Attr
	kept  *failureList
}

type failureList struct {
	mu   sync.Mutex
	list []horizon.Failure // the oldest first
}

func newFailures(h slog.Handler) *failures { return &failures{Handler: h, kept: &failureList{}} }

// Handle implements slog.Handler.
func (f *failures) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		var text strings.Builder
		text.WriteString(r.Message)
		add := func(a slog.Attr) bool {
			text.WriteString(": " + a.Value.String())
			return true
		}
		for _, a := range f.attrs {
			add(a)
		}
		r.Attrs(add)
		f.kept.add(horizon.Failure{Time: r.Time, Part: strings.ToLower(r.Level.String()), Text: text.String()})
	}
	if !f.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return f.Handler.Handle(ctx, r)
}

// Enabled implements slog.Handler: warnings are kept even if nobody logs them.
func (f *failures) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn || f.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (f *failures) WithAttrs(a []slog.Attr) slog.Handler {
	return &failures{f.Handler.WithAttrs(a), append(slices.Clip(f.attrs), a...), f.kept}
}

// WithGroup implements slog.Handler.
func (f *failures) WithGroup(name string) slog.Handler {
	return &failures{f.Handler.WithGroup(name), f.attrs, f.kept}
}

func (l *failureList) add(f horizon.Failure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, f)
	if n := len(l.list); n > keepFailures {
		l.list = slices.Delete(l.list, 0, n-keepFailures)
	}
}

// newest are the failures that are kept, the newest first.
func (l *failureList) newest() []horizon.Failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Clone(l.list)
	slices.Reverse(out)
	return out
}
