package horizon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/cluster-labs/ipfscloud/daemon/printable"
)

// news is one message to a page: what changed since the last one to the same page.
type news struct {
	Level    Level             `json:"level"`
	Sentence string            `json:"sentence"`
	Title    string            `json:"title"`
	Parts    map[string]string `json:"parts"` // id of an element, and its new inside
}

// events sends the page's parts as they change. It keeps nothing for a browser that reads
// slowly: it sends the newest state when the last one is gone out, and hangs up when that
// takes too long.
func (s *Server) events(w http.ResponseWriter, r *http.Request, _ session) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, "Too many pages are open.", http.StatusServiceUnavailable)
		return
	}
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	q := queryOf(r.URL.Query())
	changed, end := s.watcher.view()
	defer end()
	beat := time.NewTicker(s.limits.beat)
	defer beat.Stop()
	sent := map[string]string{}
	send := func(event string, data []byte) bool {
		if rc.SetWriteDeadline(time.Now().Add(s.limits.write)) != nil {
			return false
		}
		if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data); err != nil {
			return false
		}
		return rc.Flush() == nil
	}
	if !send("beat", []byte("{}")) {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-beat.C: // also lets time pass on the page
			if !send("beat", []byte("{}")) {
				return
			}
		}
		if _, ok := s.sessions.of(r); !ok { // logged out elsewhere
			send("end", []byte("{}"))
			return
		}
		snap := s.watcher.now()
		data, err := s.difference(s.view(snap, q), sent)
		if err != nil {
			s.config.Log.Error("horizon: events", "error", err)
			return
		}
		if data != nil && !send("news", data) {
			return
		}
	}
}

// difference renders the parts, and returns those that are not as sent says, or nil. The
// first call returns them all: the page may be older than the stream.
func (s *Server) difference(v view, sent map[string]string) ([]byte, error) {
	n := news{Level: v.Verdict.Level, Sentence: printable.Line(v.Verdict.Sentence), Title: printable.Line(v.Title()), Parts: map[string]string{}}
	for _, id := range parts() {
		part, err := s.render(id, v)
		if err != nil {
			return nil, err
		}
		if old, ok := sent[id]; !ok || old != part {
			sent[id], n.Parts[id] = part, part
		}
	}
	if len(n.Parts) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it is not put into HTML as it stands
	err := e.Encode(n)
	return bytes.TrimSpace(b.Bytes()), err
}
