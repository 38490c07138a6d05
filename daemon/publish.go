package daemon

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/ipfs"
	"github.com/cluster-labs/ipfscloud/fs/safefile"
)

// A record of IPNS is good for two days at most on most nodes of the network, so it is
// renewed long before.
const (
	recordLife   = 48 * time.Hour
	recordTTL    = 5 * time.Minute  // that others go without asking for a newer log
	publishAfter = 12 * time.Hour   // a record is renewed
	publishLook  = 10 * time.Second // between two looks for a newer log of ours
	publishAgain = 2 * time.Minute  // after a failure
	publishWait  = time.Minute      // for the node to meet others and take the record
	publishTry   = 2 * time.Second  // between two attempts within that time
	publishLabel = "ipfscloud identity"
)

// Publication tells where the log of the identity can be read by all.
type Publication struct {
	Name    string    `json:"name"`    // in IPNS
	URL     string    `json:"url"`     // of the log at the gateway that the DID names
	Tree    string    `json:"tree"`    // CID
	Version string    `json:"version"` // of the DID document
	Time    time.Time `json:"time"`
	Until   time.Time `json:"until"` // without a renewal others may find nothing after it
	// Problem is why the newest attempt to renew it failed.
	Problem string `json:"problem,omitempty"`
}

// publishing is an identity that signs for its name.
type publishing interface {
	DID() string
	Log(ctx context.Context) (log []byte, version string, err error)
	TakeLog(ctx context.Context, log []byte) error
	PublishingKeys(ctx context.Context) (id string, keys [][]byte, err error)
	SignName(ctx context.Context, public, msg []byte) ([]byte, error)
}

var (
	_ publishing = (*auth.Session)(nil)
	_ publishing = (*auth.Client)(nil)
)

// nameKey lets the identity sign records.
type nameKey struct {
	id     publishing
	public ed25519.PublicKey
}

// Public implements ipfs.NameKey.
func (k nameKey) Public() ed25519.PublicKey { return k.public }

// Sign implements ipfs.NameKey.
func (k nameKey) Sign(ctx context.Context, msg []byte) ([]byte, error) {
	return k.id.SignName(ctx, k.public, msg)
}

func (h Home) publicationFile() string { return h.stateFile("published.json") }

// ReadPublication returns nil while nothing is published.
func ReadPublication(h Home) (*Publication, error) {
	b, err := safefile.ReadFile(h.publicationFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("what is published: %w", err)
	}
	var p Publication
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("what is published: %s: %w: %w", h.publicationFile(), fs.ErrIntegrity, err)
	}
	return &p, nil
}

func (p Publication) save(h Home) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return writeFile(h.publicationFile(), string(b)+"\n")
}

// Unpublish ends the renewal. What is out there ends by itself, two days after the last.
func Unpublish(h Home) error {
	if err := os.Remove(h.publicationFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("what is published: %w", err)
	}
	return nil
}

// place is where an identity's log is published.
type place struct {
	name, url, path string
	keys            [][]byte // of the name, and of former ones
}

func placeOf(ctx context.Context, id publishing) (p place, err error) {
	own, keys, err := id.PublishingKeys(ctx)
	if err != nil {
		return p, err
	}
	parsed, err := webvh.ParseID(own)
	if err != nil {
		return p, err
	}
	u, err := url.Parse(parsed.LogURL())
	if err != nil {
		return p, err
	}
	name, _ := auth.NameOf(own) // it has one, or it had no key
	return place{name: name, url: parsed.LogURL(), path: u.Path, keys: keys}, nil
}

// publish makes the log of an identity readable for all under its IPNS name. What was
// there before and is newer than what is here is taken over first.
func publish(ctx context.Context, names *ipfs.Names, id publishing, log *slog.Logger) (*Publication, error) {
	at, err := placeOf(ctx, id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	if there, err := names.Read(ctx, at.name, at.path, webvh.MaxLog); err == nil {
		if err := id.TakeLog(ctx, there); err != nil {
			log.Warn("the log under the IPNS name is not used", "name", at.name, "error", err)
		}
	}
	text, version, err := id.Log(ctx)
	if err != nil {
		return nil, err
	}
	if at, err = placeOf(ctx, id); err != nil { // what was there may have moved the DID
		return nil, err
	}
	tree, err := names.Add(ctx, publishLabel, map[string][]byte{strings.TrimPrefix(at.path, "/"): text})
	if err != nil {
		return nil, err
	}
	// The sequence is the time: each device that renews the record goes on from the others'.
	now := time.Now()
	r := ipfs.Record{Tree: tree, Sequence: uint64(now.Unix()), Until: now.Add(recordLife), TTL: recordTTL}
	for {
		if err = names.Publish(ctx, nameKey{id, at.keys[0]}, r); err == nil {
			// Whoever knows a former name finds the newest log there, unless a device that was
			// revoked outbids it. That is no reason to fail.
			for _, former := range at.keys[1:] {
				if err := names.Publish(ctx, nameKey{id, former}, r); err != nil {
					log.Info("the log is not under a former IPNS name of the DID", "error", err)
				}
			}
			return &Publication{Name: at.name, URL: at.url, Tree: tree, Version: version, Time: now, Until: r.Until}, nil
		}
		select {
		case <-time.After(publishTry): // a node that has just started has to meet others
		case <-ctx.Done():
			return nil, fmt.Errorf("within %v: %w", publishWait, err)
		}
	}
}

// PublishIdentity is for a drive that is not mounted: the user's own node keeps what is
// published. The embedded one runs only while the drive is mounted: ErrNotRunning then.
func PublishIdentity(ctx context.Context, h Home, c Config, id *auth.Session, log *slog.Logger) (*Publication, error) {
	return publishOnce(ctx, h, c, id, log)
}

// lastWord is an identity that was given up, with the log that says so: its session, which
// is from before, has nothing else to say.
type lastWord struct {
	*auth.Session
	log     []byte
	version string
}

// Log is that which says that the identity was given up.
func (l lastWord) Log(context.Context) ([]byte, string, error) { return l.log, l.version, nil }

// TakeLog takes nothing: nothing comes after the last word.
func (lastWord) TakeLog(context.Context, []byte) error { return nil }

// PublishLast publishes the log of an identity that was given up, through the user's own
// node, with a session from before. ErrNotRunning without such a node.
func PublishLast(ctx context.Context, h Home, c Config, id *auth.Session, last DIDDocument, log *slog.Logger) (*Publication, error) {
	return publishOnce(ctx, h, c, lastWord{id, auth.OwnLog(h.Keystore, last.ID), last.Version.ID}, log)
}

func publishOnce(ctx context.Context, h Home, c Config, id publishing, log *slog.Logger) (*Publication, error) {
	if c.IPFS == "" {
		return nil, ErrNotRunning
	}
	if err := h.Make(); err != nil {
		return nil, err
	}
	names, err := openNames(h, c)
	if err != nil {
		return nil, err
	}
	defer names.Close()
	p, err := publish(ctx, names, id, log)
	if err != nil {
		return nil, err
	}
	return p, p.save(h)
}

// publisher renews what is published while the drive is mounted. A nil publisher has
// nothing to do.
type publisher struct {
	home   Home
	config Config
	id     publishing
	log    *slog.Logger

	mu     sync.Mutex // one publication at a time
	cancel context.CancelFunc
	done   chan struct{}
}

// startPublisher returns nil for an identity that cannot sign for a name.
func (s *Service) startPublisher() *publisher {
	id, ok := s.p.Identity.(publishing)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &publisher{home: s.p.Home, config: s.p.Config, id: id, log: s.p.Log, cancel: cancel, done: make(chan struct{})}
	go p.watch(ctx)
	return p
}

func (p *publisher) stop() {
	if p == nil {
		return
	}
	p.cancel()
	<-p.done
}

// watch renews a publication that there is: every twelve hours, and when the log is newer.
func (p *publisher) watch(ctx context.Context) {
	defer close(p.done)
	tick := time.NewTicker(publishLook)
	defer tick.Stop()
	var failed time.Time
	for {
		if due, err := p.due(ctx); err != nil {
			p.log.Warn("looking for what is published", "error", err)
		} else if due && time.Since(failed) > publishAgain {
			if _, err := p.now(ctx); err != nil && ctx.Err() == nil {
				failed = time.Now()
				p.log.Warn("renewing what is published of the identity", "error", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *publisher) due(ctx context.Context) (bool, error) {
	have, err := ReadPublication(p.home)
	if have == nil || err != nil {
		return false, err
	}
	_, version, err := p.id.Log(ctx)
	return version != have.Version || time.Since(have.Time) > publishAfter, err
}

// now publishes, and remembers it.
func (p *publisher) now(ctx context.Context) (*Publication, error) {
	if p == nil {
		return nil, auth.ErrNoName
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	done, err := p.publish(ctx)
	if err == nil {
		return done, done.save(p.home)
	}
	if have, readErr := ReadPublication(p.home); readErr == nil && have != nil && ctx.Err() == nil {
		have.Problem = err.Error()
		err = errors.Join(err, have.save(p.home))
	}
	return nil, err
}

func (p *publisher) publish(ctx context.Context) (*Publication, error) {
	names, err := openNames(p.home, p.config)
	if err != nil {
		return nil, err
	}
	defer names.Close()
	return publish(ctx, names, p.id, p.log)
}

// WriteLogFiles writes what has to lie on the web server of a DID's domain below a
// directory, and returns the files' names and where each must be found.
func WriteLogFiles(dir, id string, log []byte) (map[string]string, error) {
	parsed, err := webvh.ParseID(id)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(parsed.LogURL())
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, filepath.FromSlash(u.Path))
	if err := safefile.MakePublicDir(filepath.Dir(name)); err != nil {
		return nil, fmt.Errorf("files of the identity: %w", err)
	}
	if err := safefile.ReplacePublic(name, log); err != nil {
		return nil, fmt.Errorf("files of the identity: %w", err)
	}
	return map[string]string{name: parsed.LogURL()}, nil
}
