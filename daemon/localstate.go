package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// A file that somebody removed leaves nothing behind that tells. So the names of those that a
// drive has are kept elsewhere, beside the keystore: a drive whose state is lost must not look
// like one that was just restored. A file is noted after it was written, so that a start that
// was interrupted is no loss.

// ErrStateMissing: what this machine kept of the drive is gone, in whole or in part.
var ErrStateMissing = fs.ErrStateMissing

// kept is that note.
type kept struct {
	Vault string   `json:"vault,omitempty"`
	Files []string `json:"files"` // in the state directory
}

// statePart is a file of the state directory that a drive cannot do without. Others, such as
// pins.json, hold what is asked for again.
type statePart struct {
	name, lost string
	json       bool
}

const headsName = "heads.json"

func stateParts() []statePart {
	return []statePart{
		{"vault", "which vault is mounted here", false},
		{headsName, "what this device has written and seen; changes that were acknowledged and not committed may be in its journal, and an older state of the drive would not be noticed", true},
		{"snapshots.json", "the snapshots and their names; without it their blocks are freed and their copies given up", true},
		{"egress.json", "where copies are kept; without it none are made", true},
	}
}

func (h Home) keptFile() string { return filepath.Join(h.Keystore, "local-state.json") }

func readKept(h Home) (k kept, err error) {
	b, err := safefile.ReadFile(h.keptFile())
	if errors.Is(err, os.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &k)
	}
	if err != nil {
		return k, fmt.Errorf("the note of what local state there is, %s (you can remove it): %w: %w", h.keptFile(), ErrStateMissing, err)
	}
	return k, nil
}

// noteState changes the note. A home without a keystore keeps none.
func noteState(h Home, fn func(*kept)) error {
	if _, err := os.Stat(h.Keystore); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	// What the note names must not go with a power cut that the note survives.
	if err := syncDirectory(h.State); err != nil {
		return fmt.Errorf("noting what local state there is: %w", err)
	}
	k, err := readKept(h)
	if err != nil {
		return err
	}
	before, _ := json.Marshal(k)
	fn(&k)
	slices.Sort(k.Files)
	k.Files = slices.Compact(k.Files)
	b, err := json.Marshal(k)
	if err == nil && string(b) != string(before) {
		err = writeFile(h.keptFile(), string(b)+"\n")
	}
	if err != nil {
		return fmt.Errorf("noting what local state there is: %w", err)
	}
	return nil
}

// keepState notes a file that is there from now on, or, with there false, is not.
func keepState(h Home, name string, there bool) error {
	return noteState(h, func(k *kept) {
		if there {
			k.Files = append(k.Files, name)
		} else {
			k.Files = slices.DeleteFunc(k.Files, func(f string) bool { return f == name })
		}
	})
}

// keepMounted notes all files of a drive that was opened.
func keepMounted(h Home, vault string) error {
	return noteState(h, func(k *kept) {
		k.Vault = vault
		for _, p := range stateParts() {
			if _, err := os.Stat(h.stateFile(p.name)); err == nil {
				k.Files = append(k.Files, p.name)
			}
		}
	})
}

// checkState compares the state directory with the note. ErrStateMissing says what is missing,
// empty or cut, what that means, and what to do. With accept that is returned as a notice, and
// what is damaged is put aside.
func checkState(h Home, accept bool) (notice error, err error) {
	k, err := readKept(h)
	if err != nil && !accept {
		return nil, err
	}
	var all []error
	add := func(p statePart, what string) {
		all = append(all, fmt.Errorf("%s %s: it holds %s", h.stateFile(p.name), what, p.lost))
	}
	for _, p := range stateParts() {
		b, err := safefile.ReadFile(h.stateFile(p.name))
		switch {
		case errors.Is(err, os.ErrNotExist):
			if slices.Contains(k.Files, p.name) {
				add(p, "is missing")
			}
			continue
		case err != nil:
			return nil, fmt.Errorf("local state: %w", err)
		case len(b) == 0:
			add(p, "is empty")
		case p.json && !json.Valid(b):
			add(p, "is damaged")
		default:
			continue
		}
		if accept {
			aside := h.stateFile(p.name) + ".damaged-" + time.Now().UTC().Format("20060102T150405")
			if err := os.Rename(h.stateFile(p.name), aside); err != nil {
				return nil, fmt.Errorf("putting damaged state aside: %w", err)
			}
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	lost := fmt.Errorf("%w: %w", ErrStateMissing, errors.Join(all...))
	if !accept {
		return nil, lost
	}
	return lost, noteState(h, func(k *kept) { k.Files = nil })
}

func syncDirectory(dir string) error {
	if err := safefile.SyncDir(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
