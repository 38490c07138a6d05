package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// DeviceChange is an entry of the log that has listed a device, or not any more.
type DeviceChange struct {
	Version string // empty: there was none
	Time    time.Time
	By      string // device whose update key signed it; "recovery key"; empty if that is not known
}

// DevicePast is a device as the log tells of it.
type DevicePast struct {
	ID string
	Grant
	This           bool
	Added, Removed DeviceChange
}

// ByRecovery stands in DeviceChange.By for a change that a recovery key signed.
const ByRecovery = "recovery key"

// DeviceHistory lists the devices that the log in a keystore's directory lists or has
// listed, in the order of their coming. It wants no passphrase, and does not hold the log
// against what the keystore remembers. ErrLog; did.ErrNotSupported for a did:key.
func DeviceHistory(ctx context.Context, dir string) ([]DevicePast, error) {
	sum, err := Inspect(dir)
	if err != nil {
		return nil, err
	}
	if sum.DID == "" {
		return nil, ErrAwaits
	}
	if !hasHistory(sum.DID) {
		return nil, did.Want(did.NewKey(), did.CanUpdate)
	}
	l, err := LogMethod(dir).Newest(ctx, sum.DID)
	if errors.Is(err, did.ErrNotFound) {
		err = fmt.Errorf("%w: %w", err, ErrLog)
	}
	if err != nil {
		return nil, err
	}
	var list []DevicePast
	at := map[string]int{} // of the devices that stand in the entry before
	eachEntry(l, func(n int, doc *did.Document, by string) {
		e := l.Entry(n)
		change := DeviceChange{Version: e.VersionID, Time: e.Time, By: by}
		now := map[string]int{}
		for _, k := range doc.KeysFor(did.Authentication) {
			public, err := k.Ed25519()
			if err != nil {
				continue
			}
			id := deviceID(public)
			if _, twice := now[id]; twice { // under two names: it comes and goes once
				continue
			}
			i, ok := at[id]
			if !ok {
				i = len(list)
				list = append(list, DevicePast{ID: id, This: id == sum.Device, Added: change})
			}
			list[i].Grant = grantOf(doc, public)
			now[id] = i
		}
		for id, i := range at {
			if _, ok := now[id]; !ok {
				list[i].Removed = change
			}
		}
		at = now
	})
	return list, nil
}

// eachEntry goes through a log with the documents, and who has signed each.
func eachEntry(l *webvh.Log, visit func(n int, doc *did.Document, by string)) {
	walkOwners(l, func(n int, doc *did.Document, signers map[string]bool, recovered bool) {
		by := ""
		for d := range signers {
			by = d
		}
		if recovered {
			by = ByRecovery
		}
		visit(n, doc, by)
	})
}
