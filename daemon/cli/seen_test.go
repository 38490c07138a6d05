package cli

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/daemon"
)

// A failure tells what can be seen of the daemon, also of one that hangs.
func TestSeen(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "ic-") // short: a socket lies below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := &drive{t: t, dir: dir, home: daemon.HomeAt(dir)}
	if s := d.seen(time.Second); !strings.Contains(s, "no such file") {
		t.Errorf("no daemon: %s", s)
	}
	if err := d.home.Make(); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	for i := range 100 {
		fmt.Fprintf(&log, "line %d\n", i)
	}
	d.write(d.home.LogFile(), log.String())
	l, err := net.Listen("unix", filepath.Join(d.home.Run, "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/status" {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, "what is at "+r.URL.Path)
	})}
	go func() { _ = srv.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = srv.Close() })
	begun := time.Now()
	s := d.seen(200 * time.Millisecond)
	for _, want := range []string{"\nstatus: ", "\npins: what is at /pins", "\nlog: line 40\n", "line 99\n", "\nload: "} {
		if !strings.Contains(s, want) {
			t.Errorf("no %q in %s", want, s)
		}
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}
