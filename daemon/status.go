package daemon

import (
	"fmt"
	"os"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/fs"
)

// Status is what `ipfscloud status --json` prints. Its fields are an interface.
type Status struct {
	DID        string       `json:"did"`
	Vault      string       `json:"vault"`
	Mountpoint string       `json:"mountpoint"`
	PID        int          `json:"pid"`
	State      string       `json:"state"`             // "mounted", "read-only" or "stopped"
	Because    string       `json:"because,omitempty"` // why it is read-only
	Durability string       `json:"durability"`
	Pending    Pending      `json:"pending"`
	Commit     Commit       `json:"commit"`
	Store      fs.StoreInfo `json:"store"`
	// PhrasePending: the recovery phrase was not confirmed: not recoverable yet.
	PhrasePending bool     `json:"phrase_pending"`
	Alerts        []string `json:"alerts"`
	LastError     string   `json:"last_error,omitempty"` // of the newest attempt to commit
	// Egress keeps copies; nil if nothing does.
	Egress *EgressStatus `json:"egress,omitempty"`
	// Safe says where the data is, and whether this computer may be closed; nil without a
	// daemon, and of a snapshot.
	Safe *Safety `json:"safe,omitempty"`
}

// Safety is Horizon's verdict.
type Safety struct {
	Level    string `json:"level"` // "safe", "busy", "care" or "stop"
	Sentence string `json:"sentence"`
	Detail   string `json:"detail,omitempty"`
}

// Pending is what is not committed yet: it lies in the journal.
type Pending struct {
	Ops     int     `json:"ops"`
	Bytes   int64   `json:"bytes"`
	OldestS float64 `json:"oldest_s"` // seconds; 0 if nothing is pending
}

// Commit is the newest commit.
type Commit struct {
	Sequence uint64    `json:"sequence"`
	CID      string    `json:"cid"`
	Time     time.Time `json:"time"`
}

// Status tells where the drive stands. It waits for nothing but the keystore's file.
func (s *Service) Status() Status {
	t := s.tree.Status()
	out := Status{
		DID: s.p.Identity.DID(), Vault: t.Vault, Mountpoint: s.server.Path(), PID: os.Getpid(), State: "mounted",
		Durability: string(t.Durability),
		Pending:    Pending{Ops: t.PendingOps, Bytes: t.PendingBytes},
		Commit:     Commit{t.Commit.Sequence, t.Commit.Commit.String(), t.Commit.Time},
		Store:      t.Store, Alerts: t.Alerts, LastError: t.LastError,
	}
	// Another process may confirm the phrase at any time.
	if id, err := auth.Inspect(s.p.Home.Keystore); err == nil {
		out.PhrasePending = id.PhrasePending
	}
	if s.egress != nil {
		out.Egress = s.egress.status()
		if out.Egress.Refused {
			out.Alerts = append(out.Alerts, refusedAlert(out.Egress.URL))
		}
	}
	if a := s.session.alert(); a != "" {
		out.Alerts = append(out.Alerts, a)
	}
	if a := s.displaced.alert(); a != "" {
		out.Alerts = append(out.Alerts, a)
	}
	if a := s.asideAlert(); a != "" {
		out.Alerts = append(out.Alerts, a)
	}
	if out.Alerts == nil {
		out.Alerts = []string{}
	}
	if t.ReadOnly {
		out.State, out.Because = "read-only", t.Because
	}
	if !t.OldestPending.IsZero() {
		out.Pending.OldestS = max(0, time.Since(t.OldestPending).Seconds())
	}
	return out
}

func refusedAlert(url string) string {
	return fmt.Sprintf("Egress at %s refuses the password or token of this device, so no copies are made: "+
		"it may have been changed; ask whoever runs that Egress, then `ipfscloud egress use URL --auth-file FILE` and mount again", url)
}

// PathInfo is what `ipfscloud info --json` prints.
type PathInfo struct {
	Path   string   `json:"path"`
	Inode  uint64   `json:"inode"`
	Mode   uint32   `json:"mode"`
	Size   uint64   `json:"size"`
	State  string   `json:"state"` // "journal", "committed", or "held:2/3" by two of three machines
	Commit uint64   `json:"commit"`
	Node   string   `json:"node,omitempty"` // CID of the node that stands for the path in IPFS
	Blocks []string `json:"blocks"`         // CIDs of the sealed blobs of a file
}

func pathInfo(i fs.PathInfo) PathInfo {
	out := PathInfo{Path: i.Path, Inode: uint64(i.Attr.Ino), Mode: i.Attr.Mode, Size: i.Attr.Size,
		State: i.State, Commit: i.Commit, Blocks: []string{}}
	if !i.Node.IsZero() {
		out.Node = i.Node.String()
	}
	for _, b := range i.Blocks {
		out.Blocks = append(out.Blocks, b.String())
	}
	return out
}
