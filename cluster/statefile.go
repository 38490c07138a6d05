package cluster

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

const (
	saveEvery    = 15 * time.Second
	stateVersion = 1
	// maxKept is of how many pins it is remembered since when they are as they are; those
	// that are not held go first.
	maxKept = 1000
	// maxStateFile is more than that can be.
	maxStateFile = 16 << 20
)

// kept is the state file.
type kept struct {
	Version  int                `json:"version"`
	Released []string           `json:"released,omitempty"`
	Mine     []string           `json:"mine,omitempty"` // that may be unpinned, the newest last
	Pins     map[string]keptPin `json:"pins,omitempty"`
	// Peers were members within the last day, by ID: one that is away at the next start is
	// still known.
	Peers map[string]keptPeer `json:"peers,omitempty"`
}

type keptPeer struct {
	Name string    `json:"name,omitempty"`
	Seen time.Time `json:"seen"`
}

type keptPin struct {
	State State     `json:"state"`
	Since time.Time `json:"since"`
	In    bool      `json:"in,omitempty"`   // it was in the pin set
	Held  bool      `json:"held,omitempty"` // it once was
}

// load reads the state file. What it says of a pin counts when the cluster says nothing
// else.
func (k *Keeper) load() error {
	if k.cfg.StateFile == "" {
		return nil
	}
	f, err := safefile.Open(k.cfg.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was read
	b, err := io.ReadAll(io.LimitReader(f, maxStateFile))
	if err != nil {
		return err
	}
	var s kept
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("%s: %w", k.cfg.StateFile, err)
	}
	if s.Version != stateVersion {
		return fmt.Errorf("%w: %s is of version %d", ErrConfig, k.cfg.StateFile, s.Version)
	}
	for _, cid := range s.Released {
		k.book.released[cid] = true
	}
	k.book.before, k.book.mine = s.Pins, s.Mine
	now := k.cfg.Now()
	for id, p := range s.Peers {
		if id == "" || now.Sub(p.Seen) > forgetAfter {
			continue
		}
		m := k.book.member(id, now)
		m.name, m.seen = p.Name, p.Seen
	}
	return nil
}

// save writes the state file if there is something new.
func (k *Keeper) save() error {
	k.mu.Lock()
	dirty := k.dirty && k.cfg.StateFile != ""
	k.dirty = false
	var s kept
	if dirty {
		s = k.book.kept()
	}
	k.mu.Unlock()
	if !dirty {
		return nil
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return replaceFile(k.cfg.StateFile, append(b, '\n'))
}

func (b *book) kept() kept {
	s := kept{Version: stateVersion, Pins: make(map[string]keptPin)}
	for cid := range b.released {
		s.Released = append(s.Released, cid)
	}
	slices.Sort(s.Released)
	s.Mine = slices.Clone(b.mine)
	order := slices.Clone(b.order())
	settled := func(e *entry) int {
		if e.state == StateHeld {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(order, func(x, y *entry) int { return cmp.Compare(settled(x), settled(y)) })
	for _, e := range order[:min(len(order), maxKept)] {
		s.Pins[e.cid] = keptPin{State: e.state, Since: e.since, In: e.wasIn, Held: e.held}
	}
	if !b.given { // nothing was looked at yet
		s.Pins = b.before
	}
	for id, m := range b.peers {
		if s.Peers == nil {
			s.Peers = make(map[string]keptPeer)
		}
		if !m.seen.IsZero() {
			s.Peers[id] = keptPeer{Name: m.name, Seen: m.seen}
		}
	}
	return s
}

// remember takes over what was known of a pin before.
func (b *book) remember(e *entry) {
	p, ok := b.before[e.cid]
	if !ok {
		return
	}
	delete(b.before, e.cid)
	e.wasIn, e.held, e.last = p.In, p.Held, p
}

func replaceFile(path string, b []byte) error {
	f, err := safefile.CreateTemp(path)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
