package horizon

import (
	"context"
	"time"
)

// Source is what Horizon shows. Its methods are called by several goroutines at once and
// must return when their context ends.
type Source interface {
	// State is a snapshot. It is asked for every few seconds, so it must be cheap; its
	// slices are not changed afterwards by either side.
	State(ctx context.Context) (State, error)
	// Retry tries again to make the copies of a pin that failed, is short or was lost.
	Retry(ctx context.Context, cid string) error
	// Unpin gives up the copies of a pin.
	Unpin(ctx context.Context, cid string) error
}

// State is everything that Horizon knows about a drive. What is not known stays zero and
// is not shown.
type State struct {
	Version       string // of the software
	Drive         Drive
	Pending       Pending
	Commit        Commit   // the newest
	Commits       []Commit // the newest first
	Store         Store
	Egress        Egress
	Pins          []Pin
	Peers         []Peer
	Alerts        []Alert
	Errors        []Failure // the newest first
	Devices       []Device
	Claims        []Claim
	Snapshots     []Snapshot
	PhrasePending bool // the recovery phrase was not confirmed: not recoverable yet
	Observer      Observer
	Counters      Counters
}

// States of a drive.
const (
	Mounted  = "mounted"
	ReadOnly = "read-only"
	Stopped  = "stopped"
)

// Drive is what is mounted.
type Drive struct {
	DID        string
	Vault      string
	Mountpoint string
	State      string // Mounted, ReadOnly or Stopped
	Because    string // why it is read-only
	Durability string // what fsync waits for
	Since      time.Time
	Device     string // the name of this device
}

// Pending is what is not committed: it lies in the journal of this computer.
type Pending struct {
	Ops    int
	Bytes  int64
	Oldest time.Time // zero if nothing is pending
}

// Commit is one commit of the vault.
type Commit struct {
	Sequence uint64
	CID      string
	Time     time.Time
	Bytes    int64 // new in it, 0 if unknown
	Copies   int   // by peers, now
	Target   int
}

// Store is where the blocks lie on this computer.
type Store struct {
	Kind    string // "embedded", "kubo", …
	Version string
	Used    int64
	Free    int64 // on its disk; 0 if unknown
	Full    bool  // new data is refused
}

// States of Egress.
const (
	EgressOK          = "ok"
	EgressUnreachable = "unreachable" // its endpoint does not answer
	EgressRefused     = "refused"     // it answers, and does not let us in
)

// Egress is the fleet that keeps copies.
type Egress struct {
	Configured bool
	URL        string // without a password
	Target     int    // copies wanted
	Copies     int    // of the newest commit, as peers report them now
	State      string // EgressOK, EgressUnreachable or EgressRefused
	Since      time.Time
	Error      string
	// OnlyHere is how much committed data no peer has yet, beyond what is pending.
	OnlyHere int64
	// Here: the peers run on this computer too, for trying it out.
	Here bool
	// Unchecked says why copies that are there do not count: it is not known whether another
	// machine has written too. Empty if it is.
	Unchecked string
	// Hint is the one command that sets Egress up, if it is not the usual one.
	Hint string
}

// PinState is where a pin stands.
type PinState string

// The states of a pin, from the wish to its end.
const (
	PinWanted  PinState = "wanted"  // known here, not yet told
	PinQueued  PinState = "queued"  // peers know and have not begun
	PinCopying PinState = "copying" // peers fetch it
	PinHeld    PinState = "held"    // as many copies as wanted
	PinShort   PinState = "short"   // some copies, fewer than wanted
	PinFailed  PinState = "failed"  // a peer gave up
	PinLost    PinState = "lost"    // was held, and no peer has it
)

// Pin is something that Egress shall keep, and who does.
type Pin struct {
	CID    string
	Name   string
	State  PinState
	Since  time.Time
	Copies int
	Target int
	Bytes  int64 // 0 if unknown
	Newest bool  // the newest commit: giving it up leaves the drive without copies
	Peers  []PinPeer
}

// PinPeer is what one peer reports of one pin.
type PinPeer struct {
	Name   string
	ID     string
	Status string
	Held   bool
	Error  string
}

// Peer is a member of Egress.
type Peer struct {
	Name     string
	ID       string
	Version  string
	Up       bool
	LastSeen time.Time
	Free     int64 // 0 if unknown
	Pins     int
	Errors   int
	Error    string   // the newest
	Sees     []string // IDs of the peers that it is connected to
}

// Severities of an alert.
const (
	Critical = "critical"
	Warning  = "warning"
	Notice   = "notice"
)

// Alert is something that a person should know, and what to do about it.
type Alert struct {
	Severity string // Critical, Warning or Notice
	Text     string
	Action   string // what to do, in words
	Command  string // what to type, if that is it
	Since    time.Time
}

// Failure is an error that happened.
type Failure struct {
	Time time.Time
	Part string // "commit", "egress", …
	Text string
}

// Device is one that may open the vault.
type Device struct {
	Name  string
	ID    string
	This  bool
	Write bool      // the one that writes now
	Reads bool      // it may read only
	Until time.Time // until when it may write; zero: without end
	Added time.Time
}

// Claim is a credential about the identity.
type Claim struct {
	Text    string
	By      string // DID of the issuer
	Self    bool   // the identity says it of itself
	Until   time.Time
	Problem string // why it does not hold, or cannot be verified here; empty if it holds
}

// Snapshot is a commit that is kept.
type Snapshot struct {
	Name     string
	CID      string
	Sequence uint64
	Time     time.Time
}

// Observer is what somebody who sees the store, but has no key, can see.
type Observer struct {
	Blocks int64
	Bytes  int64 // with padding
	Sizes  []SizeClass
	Rhythm []int // commits in each of the last hours, the newest last
}

// SizeClass is how many blocks have one padded size.
type SizeClass struct {
	Size  int64
	Count int64
}

// Counters only grow, except for the sizes of the cache. They begin at zero with the
// process.
type Counters struct {
	BytesRead    uint64
	BytesWritten uint64
	Commits      uint64
	// Bounds are the upper bounds in seconds of the buckets of all Ops, ascending.
	Bounds      []float64
	Ops         []Op
	CacheHits   uint64
	CacheMisses uint64
	CacheBytes  int64
	CacheLimit  int64
}

// Op counts one kind of operation of the drive.
type Op struct {
	Kind    string // "read", "write", "fsync", …
	Count   uint64
	Errors  uint64
	Seconds float64 // sum
	// Buckets are counts, not cumulative: one for each of Counters.Bounds; what took
	// longer than the last is Count less their sum.
	Buckets []uint64
}
