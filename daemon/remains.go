package daemon

import "context"

// Remains is what a device that was revoked, or left out by a recovery, still has and nobody can
// take away from here.
type Remains struct {
	// Egress are the addresses of the Egress in use, whose password the device may know: with
	// it, it sees what is pinned, and can pin and unpin. Empty without one.
	Egress []string `json:"egress,omitempty"`
	// Fleet: the nodes of that Egress run on this machine, so that the password can be changed
	// here.
	Fleet bool `json:"fleet,omitempty"`
}

// RemainsOf tells what a lost device of this home's identity still has.
func RemainsOf(_ context.Context, h Home, c Config) (r Remains, err error) {
	used, err := c.egressInUse(h)
	if err != nil || used.none() {
		return r, err
	}
	if r.Fleet, err = hasFleet(h); err != nil {
		return r, err
	}
	if r.Egress = used.URLs; used.Local {
		r.Egress, r.Fleet = []string{"this machine"}, true
	}
	return r, nil
}
