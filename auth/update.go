package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

const (
	servicesMax    = 64
	serviceTypeMax = 256 // bytes
)

// Update writes the next version of the identity's document, signed with this device's
// update key, which the passphrase opens. edit is given what the document lists now and
// changes it; the update keys that other devices have committed to stay, unless it forgets
// them. The new log lies beside the keystore; publishing it is the caller's.
//
// ErrDevice: the log commits to no update key of this device. did.ErrNotSupported: the DID
// cannot change.
func Update(ctx context.Context, dir string, passphrase []byte, edit func(doc *did.Document, next *did.Change) error) (*did.Document, error) {
	return writeNext(ctx, dir, passphrase, plain, edit, nil)
}

// Rotate is an Update that changes nothing but this device's update keys: all of them are
// drawn anew, so that a copy of the keystore from before cannot change the document. Update
// keys that belong to no device of the document, which such a copy may have added, are not
// committed to any more.
func Rotate(ctx context.Context, dir string, passphrase []byte) (*did.Document, error) {
	return writeNext(ctx, dir, passphrase, freshKeys, func(*did.Document, *did.Change) error { return nil }, nil)
}

// writing is what a new version brings besides what it changes.
type writing int

const (
	plain     writing = iota
	freshKeys         // this device's update keys are drawn anew
	freshName         // the DID moves to the IPNS name of a fresh publishing key, if it has one
)

// writeNext is Update; after lets the keystore follow the new document, and is called too
// when edit says errUnchanged.
func writeNext(ctx context.Context, dir string, passphrase []byte, how writing,
	edit func(*did.Document, *did.Change) error, after func(*did.Document, *contents) error,
) (doc *did.Document, err error) {
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
	err = change(ctx, dir, passphrase, func(k *keystore, c *contents, master *secret, _ int) (bool, error) {
		m := LogMethod(dir)
		l, now, err := currentLog(ctx, m, k.did, c.version)
		if err != nil {
			return false, err
		}
		next := changeOf(now)
		if err := edit(now, &next); errors.Is(err, errUnchanged) && after != nil {
			doc = now
			return true, after(doc, c)
		} else if err != nil {
			return false, err
		}
		seeds, err := c.extension.seeds(master)
		if err != nil {
			return false, err
		}
		defer wipeAll(seeds)
		seed, number, err := committedBy(l, seeds)
		if own := signingPublic(c.signing); errors.Is(err, ErrDevice) && lists(now, own) && grantOf(now, own).Scope != ScopeFull {
			err = fmt.Errorf("device %s does not change the document: %w", k.device, ErrScope)
		}
		if err != nil {
			return false, err
		}
		key, err := updateKey(seed, number)
		if err != nil {
			return false, err
		}
		defer key.wipe()
		keep := seed
		number++
		if how == freshName {
			moves, err := rename(l, now, &next, c)
			if err != nil {
				return false, err
			}
			if moves { // the key first: whatever becomes of the new version, it is there
				if err := errors.Join(k.seal(master, c), k.write(dir)); err != nil {
					return false, err
				}
			}
		}
		if how == freshKeys {
			if keep, err = newSecret(seedSize); err != nil {
				return false, err
			}
			defer keep.wipe()
			rand.Read(keep.bytes())
			number = 0
			// Both are kept until the new version is written: whatever becomes of it, its key
			// is there.
			if err := c.extension.setGuarded(master, keep, seed); err != nil {
				return false, err
			}
			if err := errors.Join(k.seal(master, c), k.write(dir)); err != nil {
				return false, err
			}
		}
		following, err := nextKeys(keep, number)
		if err != nil {
			return false, err
		}
		used, err := hashOf(signingPublic(key))
		if err != nil {
			return false, err
		}
		next.Forget = append(next.Forget, webvh.MarkDevice(k.device, used))
		if err := commitNext(&next, k.device, following); err != nil {
			return false, err
		}
		forget, err := crowded(l, next, k.device, used, how == freshKeys)
		if err != nil {
			return false, err
		}
		next.Forget = append(next.Forget, forget...)
		if doc, err = m.Update(ctx, now.ID, next, seedSigner{key}); err != nil {
			return false, fmt.Errorf("updating %s: %w", now.ID, err)
		}
		c.version = doc.Version
		if err := c.extension.setGuarded(master, keep); err != nil || after == nil {
			return true, err
		}
		return true, after(doc, c)
	})
	if err != nil {
		return nil, err
	}
	return doc, nil
}

func wipeAll(secrets []*secret) {
	for _, s := range secrets {
		s.wipe()
	}
}

// committedBy finds the seed whose key a log has committed to, and the key's number.
func committedBy(l *webvh.Log, seeds []*secret) (seed *secret, number uint64, err error) {
	for _, s := range seeds {
		if number, err = committed(l, s); err == nil {
			return s, number, nil
		}
	}
	return nil, 0, err
}

// AddService writes the endpoint of a service into the document, where everybody who sees
// the document sees it. The fragment of its id follows from the endpoint; adding it again
// changes its type. ErrInvalid, and what Update fails with.
func AddService(ctx context.Context, dir string, passphrase []byte, kind, endpoint string) (*did.Document, error) {
	if err := checkEndpoint(endpoint); err != nil {
		return nil, err
	}
	if len(kind) > serviceTypeMax {
		return nil, fmt.Errorf("a type of %d bytes, at most %d: %w", len(kind), serviceTypeMax, ErrInvalid)
	}
	raw, err := json.Marshal(endpoint)
	if err != nil {
		return nil, err
	}
	return Update(ctx, dir, passphrase, func(doc *did.Document, next *did.Change) error {
		id := serviceFragment(endpoint)
		next.Services = slices.DeleteFunc(next.Services, func(s did.Service) bool { return s.ID == doc.ID+id })
		if len(next.Services) >= servicesMax {
			return fmt.Errorf("%d services are enough: %w", servicesMax, ErrInvalid)
		}
		next.Services = append(next.Services, did.Service{ID: id, Type: kind, Endpoint: raw})
		return nil
	})
}

// ErrNoService: the document lists no service with this endpoint.
var ErrNoService = errors.New("no such service in the DID document")

// RemoveService takes the services with an endpoint out of the document. Earlier versions
// of the log still have them. ErrNoService, and what Update fails with.
func RemoveService(ctx context.Context, dir string, passphrase []byte, endpoint string) (*did.Document, error) {
	return Update(ctx, dir, passphrase, func(_ *did.Document, next *did.Change) error {
		n := len(next.Services)
		next.Services = slices.DeleteFunc(next.Services, func(s did.Service) bool {
			var e string
			return json.Unmarshal(s.Endpoint, &e) == nil && e == endpoint
		})
		if len(next.Services) == n {
			return fmt.Errorf("%.200q: %w", endpoint, ErrNoService)
		}
		return nil
	})
}

// serviceFragment names a service after its endpoint.
func serviceFragment(endpoint string) string {
	sum := sha256.Sum256([]byte(endpoint))
	return "#service-" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5]))
}

// checkEndpoint wants a URL that can be told to everybody.
func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || len(endpoint) > 2048:
		return fmt.Errorf("%.200q is no URL: %w", endpoint, ErrInvalid)
	case u.Host == "" || u.User != nil || u.Fragment != "":
		return fmt.Errorf("%.200q wants a host, and neither a user nor a fragment: %w", endpoint, ErrInvalid)
	case u.Scheme != "https" && (u.Scheme != "http" || !strings.HasSuffix(u.Hostname(), "localhost")):
		return fmt.Errorf("%.200q is not of https: %w", endpoint, ErrInvalid)
	}
	return nil
}

// currentLog returns the newest log of a DID and the document it ends with, for who goes on
// from there: not older than the version seen before, and not given up. ErrLog, ErrRollback
// and ErrDeactivated.
func currentLog(ctx context.Context, m *webvh.Method, id string, seen did.Version) (*webvh.Log, *did.Document, error) {
	l, err := m.Newest(ctx, id)
	if errors.Is(err, did.ErrNotFound) {
		err = fmt.Errorf("%w: %w", err, ErrLog)
	}
	if err != nil {
		return nil, nil, err
	}
	now, err := l.Document()
	if err != nil {
		return nil, nil, err
	}
	if !now.Version.Follows(seen) {
		return nil, nil, fmt.Errorf("version %s of %s, seen before was %s: %w", now.Version, now.ID, seen, ErrRollback)
	}
	if now.Deactivated {
		return nil, nil, fmt.Errorf("%s: %w", now.ID, ErrDeactivated)
	}
	return l, now, nil
}
