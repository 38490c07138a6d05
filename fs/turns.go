package fs

import (
	"github.com/cluster-labs/ipfscloud/fs/crypt"
)

// A device that takes over notes its turn in the head: as the position of a journal whose
// id is zeros, the number after that of the head that it took over from. Heads carry the turns of all devices on, so
// that a head without a turn that another one has is not its successor, whatever its number:
// somebody went on without having seen that he was relieved.

type turns map[string]uint64

// turnsOf are the turns that a head's journals hold; nil for none.
func turnsOf(journals []crypt.JournalPosition) turns {
	var out turns
	for _, j := range journals {
		if j.Journal == ([16]byte{}) {
			if out == nil {
				out = turns{}
			}
			out[j.Device] = j.Position
		}
	}
	return out
}

// newest is where the last turn begins.
func (t turns) newest() (n uint64) {
	for _, x := range t {
		n = max(n, x)
	}
	return n
}

type turnOrder int

const (
	turnsSame turnOrder = iota
	turnsNewer
	turnsOlder // or of another line altogether
)

func (t turns) against(seen turns) turnOrder {
	for device, n := range seen {
		if t[device] < n {
			return turnsOlder
		}
	}
	for device, n := range t {
		if seen[device] < n {
			return turnsNewer
		}
	}
	return turnsSame
}

// carriedOn are the entries of a head that the next head of a device has too.
func carriedOn(journals []crypt.JournalPosition, device string) []crypt.JournalPosition {
	var out []crypt.JournalPosition
	for _, j := range journals {
		if j.Device != device || j.Journal == ([16]byte{}) {
			out = append(out, j)
		}
	}
	return out
}

// takeTurn notes that a device took over from the head with a sequence.
func takeTurn(journals []crypt.JournalPosition, device string, from uint64) []crypt.JournalPosition {
	var out []crypt.JournalPosition
	for _, j := range journals {
		if j.Device != device || j.Journal != ([16]byte{}) {
			out = append(out, j)
		}
	}
	return append(out, crypt.JournalPosition{Device: device, Position: from + 1})
}
