package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/daemon/horizon"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/ipfs"
)

const (
	keepHistory = 100              // commits that the page lists
	shapeEvery  = 30 * time.Second // between looks at what the store takes
)

// page is what Horizon is told of this drive.
type page struct {
	s *Service

	mu      sync.Mutex
	commits []horizon.Commit // the newest first
	total   uint64           // commits since the start
	rhythm  [24]int          // commits in each hour of the day before now
	hour    int64            // of the newest entry of rhythm, since 1970
	shape   shape
	asked   time.Time
	whose   whose
}

// shape is what the store takes, and what somebody sees who sees it.
type shape struct {
	used, free int64
	observer   horizon.Observer
}

// committed is told of each commit; it returns at once.
func (p *page) committed(h fs.HeadInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total++
	p.turn(h.Time)
	p.rhythm[len(p.rhythm)-1]++
	p.commits = append([]horizon.Commit{{Sequence: h.Sequence, CID: h.Commit.String(), Time: h.Time, Bytes: h.Bytes}}, p.commits...)
	p.commits = p.commits[:min(len(p.commits), keepHistory)]
}

// turn makes the last entry of rhythm that of the hour of now.
func (p *page) turn(now time.Time) {
	hour := now.Unix() / 3600
	for p.hour < hour {
		if hour-p.hour > int64(len(p.rhythm)) {
			p.rhythm, p.hour = [24]int{}, hour
			return
		}
		copy(p.rhythm[:], p.rhythm[1:])
		p.rhythm[len(p.rhythm)-1] = 0
		p.hour++
	}
}

// State implements horizon.Source.
func (p *page) State(ctx context.Context) (horizon.State, error) {
	st := p.s.Status()
	out := p.s.place(&st)
	out.Errors, out.Counters = p.s.failures.newest(), p.s.meter.counters()
	out.Devices = []horizon.Device{{Name: p.s.p.Identity.Device(), This: true, Write: st.State == horizon.Mounted}}
	for _, a := range p.s.logins.asked() {
		out.Alerts = append(out.Alerts, horizon.Alert{Severity: horizon.Notice,
			Text: "A program on this machine asks who you are: " + a.Audience + ".", Action: "To see for what, and to answer:", Command: "ipfscloud id login", Since: a.Since})
	}
	who := p.lookAtIdentity(ctx)
	out.Claims = who.claims
	if len(who.devices) > 0 {
		out.Devices = nil
		for _, d := range who.devices {
			d.Write = d.This && st.State == horizon.Mounted
			out.Devices = append(out.Devices, d)
		}
	}
	for _, x := range p.s.snapshots.list() {
		out.Snapshots = append(out.Snapshots, horizon.Snapshot{Name: x.Name, CID: x.CID, Sequence: x.Sequence, Time: x.Time})
	}
	shape := p.look(ctx)
	out.Store.Used, out.Store.Free = shape.used, shape.free
	if c, ok := p.s.store.(*ipfs.Cache); ok {
		stats := c.Stats()
		out.Counters.CacheHits, out.Counters.CacheMisses = stats.Hits, stats.Misses
		out.Counters.CacheBytes, out.Counters.CacheLimit = int64(stats.Used), int64(stats.Limit)
	}
	out.Observer = shape.observer
	p.mu.Lock()
	p.turn(time.Now())
	out.Observer.Rhythm = append([]int(nil), p.rhythm[:]...)
	out.Counters.Commits = p.total
	out.Commits = append([]horizon.Commit(nil), p.commits...)
	p.mu.Unlock()
	if len(out.Commits) == 0 && out.Commit.Sequence > 0 { // made before this mount
		out.Commits = append(out.Commits, out.Commit)
	}
	if p.s.egress != nil {
		p.s.egress.describe(&out)
	}
	out.Alerts = append(out.Alerts, foresee(time.Now(), &out)...)
	return out, nil
}

// place is the part of the state that says where the data is, without that about Egress.
func (s *Service) place(st *Status) horizon.State {
	out := horizon.State{
		Version: s.p.Version,
		Drive: horizon.Drive{DID: st.DID, Vault: st.Vault, Mountpoint: st.Mountpoint, State: st.State,
			Because: st.Because, Durability: st.Durability, Since: s.since, Device: s.p.Identity.Device()},
		Pending:       horizon.Pending{Ops: st.Pending.Ops, Bytes: st.Pending.Bytes},
		Commit:        horizon.Commit{Sequence: st.Commit.Sequence, CID: st.Commit.CID, Time: st.Commit.Time},
		PhrasePending: st.PhrasePending,
		Store:         horizon.Store{Kind: st.Store.Kind, Version: st.Store.Version, Full: s.meter.full() || s.tree.Full()},
	}
	if st.Pending.Ops > 0 {
		out.Pending.Oldest = time.Now().Add(-time.Duration(st.Pending.OldestS * float64(time.Second)))
	}
	out.Alerts = s.page.alerts()
	if st.LastError != "" {
		out.Alerts = append(out.Alerts, horizon.Alert{Severity: horizon.Warning,
			Text: "The newest attempt to commit failed: " + st.LastError, Action: "It is tried again by itself."})
	}
	return out
}

// judge says, as the page does, whether the data is safe.
// Of a snapshot it says nothing: that is not where the newest data is.
func (s *Service) judge(st *Status) *Safety {
	if s.p.Snapshot != "" {
		return nil
	}
	state := s.place(st)
	if s.egress != nil {
		s.egress.describe(&state)
	}
	v := horizon.Glance(time.Now(), state)
	return &Safety{Level: string(v.Level), Sentence: v.Sentence, Detail: v.Detail}
}

// look asks the store what it takes, not too often.
func (p *page) look(ctx context.Context) shape {
	p.mu.Lock()
	old, due := p.shape, time.Since(p.asked) > shapeEvery
	if due {
		p.asked = time.Now()
	}
	p.mu.Unlock()
	if !due {
		return old
	}
	var now shape
	if used, free, err := p.s.store.Usage(ctx); err == nil {
		now.used, now.free = int64(used), int64(free)
	}
	now.observer.Bytes = now.used
	if e, ok := p.s.store.(*ipfs.Embedded); ok {
		if sizes, err := e.Sizes(ctx); err == nil {
			for _, c := range sizes {
				now.observer.Blocks += c.Count
				now.observer.Sizes = append(now.observer.Sizes, horizon.SizeClass{Size: c.Size, Count: c.Count})
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shape = now
	return now
}

// alerts are those of the drive, each with what to do.
func (p *page) alerts() []horizon.Alert {
	t := p.s.tree.Status()
	var out []horizon.Alert
	for i, text := range t.Alerts {
		out = append(out, explain(text, t.Causes[i]))
	}
	if a := p.s.displaced.alert(); a != "" {
		out = append(out, horizon.Alert{Severity: horizon.Critical, Text: a, Action: "See what only this device has:", Command: "ipfscloud aside list"})
	}
	if a := p.s.asideAlert(); a != "" {
		out = append(out, horizon.Alert{Severity: horizon.Warning, Text: a, Action: "See what there is:", Command: "ipfscloud aside list"})
	}
	if a := p.s.session.alert(); a != "" {
		out = append(out, horizon.Alert{Severity: horizon.Warning, Text: a, Action: "Log in again:", Command: "ipfscloud login"})
	}
	return out
}

const (
	silentPeer = 5 * time.Minute // until a peer that is down is an alert
	littleDisk = 1 << 30         // bytes free on this computer's disk that are an alert
)

// foresee warns of what is no harm yet: a peer that is gone while the others hold all, and
// a disk that will be full.
func foresee(now time.Time, s *horizon.State) (out []horizon.Alert) {
	for _, p := range s.Peers {
		if !p.Up && !p.LastSeen.IsZero() && now.Sub(p.LastSeen) > silentPeer {
			out = append(out, horizon.Alert{Severity: horizon.Warning, Text: "The peer " + p.Name + " is down.",
				Action: "See whether its machine is on. What the peers say:", Command: "ipfscloud egress peers", Since: p.LastSeen})
		}
	}
	if s.Store.Free > 0 && s.Store.Free < littleDisk && !s.Store.Full {
		out = append(out, horizon.Alert{Severity: horizon.Warning, Text: fmt.Sprintf("The disk of this computer has only %d MB left.", s.Store.Free/1e6),
			Action: "Make room on it, before new data is refused."})
	}
	return out
}

// explain says what an alert of the drive asks of a person.
func explain(text string, cause error) horizon.Alert {
	a := horizon.Alert{Severity: horizon.Critical, Text: text}
	switch {
	case errors.Is(cause, fs.ErrOtherWriter):
		a.Severity, a.Action, a.Command = horizon.Warning, "Write on the other machine, or make this one the writer:", "ipfscloud device take-over"
	case errors.Is(cause, fs.ErrTwin):
		a.Action = "A copy of this machine's disk is in use elsewhere, or this is one. Nothing was overwritten, and both keep what they have. " +
			"Stop the one that is not to go on, and make it a device of its own (`ipfscloud device add` in an empty home). Then, on the one that goes on:"
		a.Command = "ipfscloud device take-over"
	case errors.Is(cause, fs.ErrRollback):
		a.Action = "An old backup of the store was restored, or somebody rolled it back. Nothing was overwritten. Find out who wrote to it; bring the newer store back, then mount again."
	case errors.Is(cause, fs.ErrFork):
		a.Action = "Two machines wrote the same commit, as after a copy of this machine's state was restored. Nothing was overwritten. Find out who wrote; then, to go on from the line that the store shows:"
		a.Command = "ipfscloud device take-over"
	case errors.Is(cause, fs.ErrIntegrity):
		a.Action = "What does not verify is not served. Look at the disk, and who else writes to the store; what copies are left elsewhere:"
		a.Command = "ipfscloud pins"
	default:
		a.Action, a.Command = "See what the daemon says:", "ipfscloud status"
	}
	return a
}

// Retry implements horizon.Source.
func (p *page) Retry(ctx context.Context, cid string) error { return pinError(p.s.retryPin(cid)) }

// Unpin implements horizon.Source.
func (p *page) Unpin(ctx context.Context, cid string) error { return pinError(p.s.unpin(cid)) }

// pinError gives an error the meaning that it has to the page.
func pinError(err error) error {
	if errors.Is(err, fs.ErrNotFound) {
		return fmt.Errorf("%w: %w", horizon.ErrNoPin, err)
	}
	return err
}

var _ horizon.Source = (*page)(nil)
