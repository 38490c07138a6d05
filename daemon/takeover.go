package daemon

import (
	"context"
	"time"

	"github.com/cluster-labs/ipfscloud/fs"
)

// Displaced is what is known of the device that a take-over displaces. What it has written and
// not committed, or committed and not handed to Egress yet, nobody but itself can know.
type Displaced struct {
	Device   string    `json:"device"`
	Sequence uint64    `json:"sequence"` // of its newest commit that could be had: what the drive goes on from
	Time     time.Time `json:"time"`
	// Asked: Egress was asked. Copies counts the peers that report all of that commit.
	Asked  bool `json:"asked"`
	Copies int  `json:"copies"`
	// Newer is the number of a later commit that Egress lists of it and that could not be had;
	// 0 if there is none. NewerCopies counts the peers that report all of that one.
	Newer       uint64 `json:"newer,omitempty"`
	NewerCopies int    `json:"newer_copies,omitempty"`
}

// TakenOver is what a take-over came to.
type TakenOver struct {
	Commit fs.HeadInfo
	// Displaced is the device that wrote before; nil if this one did.
	Displaced *Displaced
}

// TakeOver makes this device the one that writes the drive. tell, if not nil, is told of the
// other device before anything is changed; an error of it ends the take-over.
func (d Devices) TakeOver(ctx context.Context, tell func(*Displaced) error) (*TakenOver, error) {
	out := &TakenOver{}
	v := vaultChange{home: d.Home, config: d.Config, passphrase: d.Passphrase, takeOver: true, log: d.Log,
		displaces: func(ctx context.Context, vault string, newest fs.HeadInfo) error {
			out.Displaced = d.displaced(ctx, vault, newest)
			if tell == nil {
				return nil
			}
			return tell(out.Displaced)
		}}
	var err error
	out.Commit, err = v.run(ctx)
	return out, err
}

// displacedWait bounds what is asked for people to read: a take-over does not depend on it.
const displacedWait = 15 * time.Second

// displaced asks Egress what it has of the device that made a commit.
func (d Devices) displaced(ctx context.Context, vault string, newest fs.HeadInfo) *Displaced {
	out := &Displaced{Device: newest.Device, Sequence: newest.Sequence, Time: newest.Time}
	ctx, cancel := context.WithTimeout(ctx, displacedWait)
	defer cancel()
	client, err := egressClient(d.Home, d.Config, d.Log)
	if client == nil || err != nil {
		return out
	}
	defer client.Close()
	pins, err := client.Find(ctx, vaultKey, vault)
	if err != nil {
		return out
	}
	if out.Copies, err = client.Copies(ctx, newest.Commit.String()); err != nil {
		return out
	}
	out.Asked = true
	for _, p := range vaultsOf(pins)[vault] { // the newest first
		if p.name.Device != newest.Device || p.name.Sequence <= newest.Sequence {
			continue
		}
		out.Newer = p.name.Sequence
		out.NewerCopies, _ = client.Copies(ctx, p.cid.String()) // 0 is what is to be feared
		break
	}
	return out
}
