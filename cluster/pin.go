package cluster

import "time"

// Want is a CID that is to be kept.
type Want struct {
	CID  string
	Name string
	// Metadata is stored with the pin, where Client.Find finds it. KeeperConfig.Owner is
	// added to it.
	Metadata map[string]string
	// Update is the CID of the version before, if there is one. With SmallChange set, and
	// all peers that hold that one up, the pin is made as an update of it: peers then
	// compare the two trees instead of walking all of the new one.
	Update      string
	SmallChange bool
	// Size, if it is known, is about how many bytes there are to copy. It makes a pin of
	// much data stall later.
	Size int64
	// Newest marks the CID that counts: Summary is about it, it goes first, and nothing
	// is unpinned while it is not held. At most one.
	Newest bool
}

// Policy says how many copies there are to be, and where.
type Policy struct {
	// Min and Max copies of each pin; -1 for both is one on each peer. A pin is held when
	// it has Min copies, and on its target when it has Max.
	Min, Max int
	// Peers are names or IDs of peers to prefer.
	Peers []string
	// Expiry is how long a pin lasts when nobody renews it; 0 is for ever. Wanted pins
	// are renewed after half of it.
	Expiry time.Duration
}

// State is where a pin stands.
type State string

// The states of a pin, from the wish to its end.
const (
	// StateWanted: known here, and not yet in the cluster's pin set. Reason says why not.
	StateWanted State = "wanted"
	// StateQueued: in the pin set, and no peer reports to have begun.
	StateQueued State = "queued"
	// StateCopying: peers report to fetch it, and there are fewer than Policy.Min copies.
	StateCopying State = "copying"
	// StateHeld: at least Policy.Min allocated peers report to have it all.
	StateHeld State = "held"
	// StateShort: fewer copies than Policy.Min, because peers do not answer or there are
	// not enough of them.
	StateShort State = "short"
	// StateFailed: fewer than Policy.Min, and peers or the cluster report errors, or there
	// was no progress for the time that Reason names. It is tried again.
	StateFailed State = "failed"
	// StateLost: it was in the pin set, and is not any more; or all peers that should
	// have it report that they do not. It is pinned again.
	StateLost State = "lost"
)

// Pin is what is known of one CID.
type Pin struct {
	CID      string
	Name     string
	Metadata map[string]string
	Newest   bool
	State    State
	Since    time.Time // of the state
	Reason   string    // in a sentence, when State is not what it should be
	// Copies are the allocated peers that report it as pinned; Target is how many there
	// should be, and Min with how many it is held.
	Copies, Min, Target int
	// AsOf is when a peer was last asked about it; zero is never. Stale says that this is
	// longer ago than KeeperConfig.StaleAfter.
	AsOf  time.Time
	Stale bool
	// UnderWay says that peers are at work on it: its blocks must stay with us.
	UnderWay bool
	Wanted   bool      // false for one that is only kept until a newer one is held
	Created  time.Time // when the cluster accepted it; zero if it did not
	Expires  time.Time // zero for never
	Peers    []PinPeer // those allocated, by name
}

// PinPeer is what one allocated peer reports of one pin.
type PinPeer struct {
	ID, Name string
	Status   string // as IPFS Cluster calls it, or StatusSilent
	Held     bool   // it counts as a copy
	Error    string // the newest one, until the peer has it pinned
	Since    time.Time
	Attempts int
}

// StatusSilent is the status of a peer that gave no answer.
const StatusSilent = "no_answer"

// Summary is the newest pin and the cluster at a glance.
type Summary struct {
	Endpoint string // the one that answered last, without credentials
	// Reachable is false when the last calls failed with Error, or none was made yet.
	Reachable bool
	Refused   bool // the credentials were
	// Peers that are known, and those of them that answer.
	Peers, PeersUp int
	// CID, Copies, Min, Target, State, Since and Reason are those of the newest pin; State
	// is empty if nothing is wanted.
	CID                 string
	Copies, Min, Target int
	State               State
	Since               time.Time
	Reason              string
	AsOf                time.Time
	Stale               bool
	Error               string
	ErrorSince          time.Time // since when calls have failed
}

// Peer is a member of the cluster.
type Peer struct {
	ID, Name, Version string
	// Up says that the cluster hears it, or that it has answered since it was not heard, and
	// that it answered when it was last asked.
	Up       bool
	Since    time.Time // of Up
	LastSeen time.Time
	Error    string // why it is not up, or what its IPFS node says
	// Free and Used bytes of its IPFS node; -1 when unknown.
	Free, Used int64
	Pins       int // of ours that are allocated to it
	Held       int // of these, those that it reports to have
	Errors     int // of these, those that it reports an error for
	IPFS       string
	IPFSAddrs  []string // of its IPFS node, with /p2p/: whom to dial
	Sees       []string // IDs of the peers that it is connected to
}

// Alert is something that the cluster noticed of a peer.
type Alert struct {
	Peer, Metric string
	Time         time.Time
}

// Found is a pin as it stands in the cluster's pin set.
type Found struct {
	CID         string
	Name        string
	Metadata    map[string]string
	Created     time.Time
	Expires     time.Time // zero for never
	Allocations []string  // IDs of peers; none is all of them
}
