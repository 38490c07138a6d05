package daemon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"runtime/pprof"
	"strconv"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
)

// maxProfile is the longest profile, and mutexRate says which part of the waits for locks
// one of them counts.
const (
	maxProfile = 5 * time.Minute
	mutexRate  = 10
)

// profile answers with a profile of this process in pprof's format. It tells what the
// program does, and nothing of what it does it with.
func profile(w http.ResponseWriter, r *http.Request) {
	seconds, err := strconv.Atoi(r.FormValue("seconds"))
	d := time.Duration(seconds) * time.Second
	if err != nil || d < 0 || d > maxProfile {
		reply(w, nil, fmt.Errorf("%q seconds of a profile: %w", r.FormValue("seconds"), fs.ErrInvalid))
		return
	}
	kind := r.FormValue("kind")
	if kind == "cpu" {
		if err := pprof.StartCPUProfile(w); err != nil {
			reply(w, nil, fmt.Errorf("%w: %w", fs.ErrBusy, err))
			return
		}
		defer pprof.StopCPUProfile()
		pause(r.Context(), d)
		return
	}
	p := pprof.Lookup(kind)
	if p == nil {
		reply(w, nil, fmt.Errorf("there is no profile %q: %w", kind, fs.ErrInvalid))
		return
	}
	switch kind {
	case "mutex":
		defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(mutexRate))
		pause(r.Context(), d)
	case "heap":
		runtime.GC()
	}
	// The one who asked may be gone; there is nobody to tell.
	_ = p.WriteTo(w, 0)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Profile writes a profile of the daemon (cpu, heap, allocs, goroutine, mutex, …), the
// first and the fifth taken over a time.
func (c *Client) Profile(ctx context.Context, w io.Writer, kind string, d time.Duration) error {
	q := url.Values{"kind": {kind}, "seconds": {strconv.Itoa(int(d / time.Second))}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://daemon/profile?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking the daemon: %w: %w", fs.ErrUnavailable, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return decode(resp, nil)
	}
	_, err = io.Copy(w, resp.Body)
	return err
}
