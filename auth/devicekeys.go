package auth

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// Scope is what a device may do besides reading.
type Scope string

// The scopes of a device.
const (
	// ScopeFull: it commits, and changes the DID document, other devices included.
	ScopeFull Scope = "full"
	// ScopeWrite: it commits until a date, and does not change the document.
	ScopeWrite Scope = "write"
	// ScopeRead: it logs in and reads.
	ScopeRead Scope = "read-only"
)

// Grant is what a device is allowed. Until is for ScopeWrite, and zero for others.
type Grant struct {
	Scope Scope
	Until time.Time
}

func (g Grant) check() error {
	switch {
	case g.Scope == ScopeFull || g.Scope == ScopeRead:
		if !g.Until.IsZero() {
			return fmt.Errorf("scope %s has no end: %w", g.Scope, ErrInvalid)
		}
	case g.Scope != ScopeWrite:
		return fmt.Errorf("scope %.40q: %w", g.Scope, ErrInvalid)
	case g.Until.IsZero():
		return fmt.Errorf("scope %s wants an end: %w", g.Scope, ErrInvalid)
	}
	return nil
}

// writeSuffix makes the fragment of the key with which a device commits until a date:
// listed a second time, under assertionMethod, and with the date when it expires.
const writeSuffix = "-write"

// keysOf is how a document lists a device: under authentication, because all log in, and
// under assertionMethod, if it may commit.
func keysOf(public []byte, g Grant) []did.Key {
	k := deviceKey(public)
	if g.Scope == ScopeFull {
		return []did.Key{k}
	}
	k.Relationships = []did.Relationship{did.Authentication}
	if g.Scope == ScopeRead {
		return []did.Key{k}
	}
	write := did.Key{
		Fragment: k.Fragment + writeSuffix, Type: did.Ed25519, Public: public, Expires: g.Until,
		Relationships: []did.Relationship{did.AssertionMethod},
	}
	return []did.Key{k, write}
}

// grantOf reads what keysOf wrote.
func grantOf(doc *did.Document, public []byte) Grant {
	g := Grant{Scope: ScopeRead}
	for _, k := range doc.KeysFor(did.AssertionMethod) {
		if p, err := k.Ed25519(); err != nil || !bytes.Equal(p, public) {
			continue
		}
		if k.Expires.IsZero() {
			return Grant{Scope: ScopeFull}
		}
		if k.Expires.After(g.Until) {
			g = Grant{Scope: ScopeWrite, Until: k.Expires}
		}
	}
	return g
}

// commitNext makes a change commit to the next update key of a device, with its mark.
func commitNext(c *did.Change, device string, keys [][]byte) error {
	for _, k := range keys {
		hash, err := hashOf(k)
		if err != nil {
			return err
		}
		commitHash(c, device, hash)
	}
	return nil
}

func commitHash(c *did.Change, device, hash string) {
	c.NextHashes = append(c.NextHashes, hash, webvh.MarkDevice(device, hash))
}

func hashOf(public []byte) (string, error) {
	multi, err := did.Multikey(did.Ed25519, public)
	if err != nil {
		return "", err
	}
	return webvh.HashKey(multi), nil
}

// nextOwners tells for the hashes of next keys in the newest entry of a log whose they
// are. A mark counts if the device itself has signed the entry that brought it, or if that
// entry brought the device too, or the recovery key signed it: nobody else can pass a key of
// his own off as another device's. What is in no entry of the map is a mark, the recovery
// key, or of nobody.
func nextOwners(l *webvh.Log) map[string]string {
	return walkOwners(l, func(int, *did.Document, map[string]bool, bool) {})
}

// walkOwners is nextOwners and calls visit with each entry: its document, the devices that
// have signed it, and whether a recovery key has. A document that cannot be read, as there
// may be one from before a log had a recovery key, lists nothing.
func walkOwners(l *webvh.Log, visit func(n int, doc *did.Document, signers map[string]bool, recovered bool)) map[string]string {
	owner := map[string]string{}
	had := map[string]bool{} // hashes of the entry before
	var recovery []string
	listed := map[string]bool{}
	for n := 1; n <= l.Len(); n++ {
		doc, err := l.DocumentAt(n)
		if err != nil {
			doc = &did.Document{ID: l.Entry(n).ID.String()}
		}
		signers := map[string]bool{}
		recovered := false
		for _, k := range l.Signers(n) {
			h := webvh.HashKey(k)
			if d, ok := owner[h]; ok {
				signers[d] = true
			}
			recovered = recovered || slices.Contains(recovery, h)
		}
		devices := map[string]bool{}
		for _, k := range doc.KeysFor(did.Authentication) {
			if p, err := k.Ed25519(); err == nil {
				devices[deviceID(p)] = true
			}
		}
		hashes := l.NextKeyHashes(n)
		has := map[string]bool{}
		for _, h := range hashes {
			has[h] = true
		}
		now := map[string]string{}
		for _, h := range hashes {
			if had[h] {
				if d, ok := owner[h]; ok {
					now[h] = d
				}
				continue
			}
			for d := range devices {
				// Without a mark, what stands in the first entry is its only device's.
				if n == 1 && len(devices) == 1 || (signers[d] || !listed[d] || recovered) && has[webvh.MarkDevice(d, h)] {
					now[h] = d
				}
			}
		}
		visit(n, doc, signers, recovered)
		owner, had, listed, recovery = now, has, devices, webvh.RecoveryHashes(hashes)
	}
	return owner
}

// crowded are the hashes that a change must forget besides, for the list to have room for
// what the change adds. A thief may have filled it up. Hashes that belong to no device go
// first (and always, if the change is to draw keys anew); then those of the devices that
// came last, which stay in the document, and cannot change it any more.
func crowded(l *webvh.Log, next did.Change, own, used string, fresh bool) ([]string, error) {
	gone := map[string]bool{used: true}
	for _, h := range next.Forget {
		gone[h] = true
	}
	left := func() int {
		n := map[string]bool{}
		for _, h := range slices.Concat(l.Params().NextKeyHashes, next.NextHashes) {
			if !gone[h] || slices.Contains(next.NextHashes, h) {
				n[h] = true
			}
		}
		return len(n)
	}
	var forget []string
	drop := func(hashes ...string) {
		for _, h := range hashes {
			gone[h] = true
		}
		forget = append(forget, hashes...)
	}
	if fresh || left() > webvh.MaxKeys {
		listed := map[string]bool{own: true}
		for _, k := range next.Keys {
			listed[deviceID(k.Public)] = true
		}
		drop(stale(l, func(d string) bool { return listed[d] })...)
	}
	if left() <= webvh.MaxKeys {
		return forget, nil
	}
	came := map[string]int{}
	owner := walkOwners(l, func(n int, doc *did.Document, _ map[string]bool, _ bool) {
		for _, k := range doc.KeysFor(did.Authentication) {
			if p, err := k.Ed25519(); err == nil && came[deviceID(p)] == 0 {
				came[deviceID(p)] = n
			}
		}
	})
	hashes := slices.SortedFunc(maps.Keys(owner), func(a, b string) int {
		return cmp.Or(came[owner[b]]-came[owner[a]], strings.Compare(a, b))
	})
	for _, h := range hashes {
		if d := owner[h]; d != own && left() > webvh.MaxKeys {
			drop(h, webvh.MarkDevice(d, h))
		}
	}
	if n := left(); n > webvh.MaxKeys {
		return nil, fmt.Errorf("%d next keys and marks, at most %d: %w", n, webvh.MaxKeys, ErrInvalid)
	}
	return forget, nil
}

// stale are the hashes to forget when only some devices stay: those of others, of nobody,
// and the marks of keys that are gone. The recovery key's stay.
func stale(l *webvh.Log, stays func(device string) bool) []string {
	owner := nextOwners(l)
	hashes := l.Params().NextKeyHashes
	keep := map[string]bool{}
	for _, h := range webvh.RecoveryHashes(hashes) {
		keep[h], keep[webvh.MarkRecovery(h)] = true, true
	}
	for h, d := range owner {
		if stays(d) && webvh.Marked(hashes, d, h) {
			keep[h], keep[webvh.MarkDevice(d, h)] = true, true
		}
	}
	return slices.DeleteFunc(slices.Clone(hashes), func(h string) bool { return keep[h] })
}
