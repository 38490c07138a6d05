package cli

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/cluster-labs/ipfscloud/daemon/printable"
)

// journalHandler writes to systemd's journal: the level is the priority, and each
// attribute a field of its own, as IPFSCLOUD_SEQUENCE.
type journalHandler struct {
	least slog.Level
	attrs []slog.Attr
}

// Enabled implements slog.Handler.
func (h *journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.least }

// Handle implements slog.Handler.
func (h *journalHandler) Handle(_ context.Context, r slog.Record) error {
	text, fields := printable.Line(r.Message), map[string]string{"SYSLOG_IDENTIFIER": "ipfscloud"}
	add := func(a slog.Attr) bool {
		value := printable.Line(a.Value.String()) // with a newline it could pretend to be another message
		text += " " + a.Key + "=" + value
		fields[fieldName(a.Key)] = value
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	p := journal.PriDebug
	switch {
	case r.Level >= slog.LevelError:
		p = journal.PriErr
	case r.Level >= slog.LevelWarn:
		p = journal.PriWarning
	case r.Level >= slog.LevelInfo:
		p = journal.PriInfo
	}
	return journal.Send(text, p, fields)
}

// fieldName makes a key one that the journal takes.
func fieldName(key string) string {
	return "IPFSCLOUD_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

// WithAttrs implements slog.Handler.
func (h *journalHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return &journalHandler{h.least, append(slices.Clip(h.attrs), a...)}
}

// WithGroup implements slog.Handler; nothing here uses groups.
func (h *journalHandler) WithGroup(string) slog.Handler { return h }

// toJournal is a logger to systemd's journal, if that is where standard error goes.
func toJournal() (*slog.Logger, bool) {
	is, err := journal.StderrIsJournalStream()
	if err != nil || !is {
		return nil, false
	}
	return slog.New(&journalHandler{least: slog.LevelInfo}), true
}
