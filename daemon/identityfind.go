package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/fs"
	"github.com/cluster-labs/ipfscloud/fs/crypt"
	"github.com/cluster-labs/ipfscloud/fs/ipfs"
)

// ErrIdentityNotFound: nothing that was asked has anything of this recovery phrase.
var ErrIdentityNotFound = errors.New("nothing of this recovery phrase was found")

// Searches are what a search for an identity may take.
const (
	searchStore  = 40 * time.Second // the IPFS node, to start and to be read
	searchEgress = 40 * time.Second // Egress, to answer and to give what it has
	searchLog    = 15 * time.Second // any other place of a log
)

// LogSource is a place that may have a DID's log, for IdentitySearch.
type LogSource struct {
	Name string // for people
	Log  func(ctx context.Context) ([]byte, error)
}

// IdentitySearch looks for the identity and the newest commit of a recovery phrase, in
// every place it knows of, at the same time. None of them is trusted: logs certify
// themselves, and commits are sealed to the phrase and signed by a device of the log.
type IdentitySearch struct {
	Home   Home
	Config Config
	Phrase *auth.Phrase
	Logs   []LogSource // besides the node, Egress and IPNS
	// Domains are the owner's, as far as the owner has named them. They are asked for over
	// IPNS, where they are IPNS names; that of the phrase is asked for anyway. A recovery
	// leaves the DID there if a device has moved it there.
	Domains []string
	Log     *slog.Logger
}

// FoundIdentity is the best there is.
type FoundIdentity struct {
	auth.Found
	Version string       // of the newest DID document
	Changed time.Time    // when that was made; zero for a DID without history
	Source  string       // of the log
	Commit  *fs.HeadInfo // the newest commit that verifies; nil if there is none
	Name    fs.CommitName
	From    string // the source of the commit
	// Unlisted: the device that signed the commit is not in the newest document, but it was
	// in the one that the commit was made with.
	Unlisted bool
	// LeftOut says why entries at the end of the log do not count, if there are any that do
	// not hold.
	LeftOut error
	Asked   []string // what was asked, and how that went; for people
}

// clue is a log or a commit, from somewhere.
type clue struct {
	source string
	log    []byte
	commit *fs.Evidence
}

// Run asks everything, with deadlines. ErrIdentityNotFound; fs.ErrBusy when the drive of
// this home is mounted.
func (s IdentitySearch) Run(ctx context.Context) (*FoundIdentity, error) {
	if err := s.Home.Make(); err != nil {
		return nil, err
	}
	lock, err := takeLock(s.Home.lockFile())
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	type answer struct {
		clues []clue
		asked string
	}
	answers := make(chan answer)
	ask := func(name string, d time.Duration, f func(ctx context.Context) ([]clue, error)) {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		clues, err := f(ctx)
		a := answer{clues: clues, asked: fmt.Sprintf("%s: %d found", name, len(clues))}
		if err != nil {
			a.asked = fmt.Sprintf("%s: %v", name, err)
		}
		answers <- a
	}
	go ask("the IPFS node, Egress and IPNS", searchStore+searchEgress+nameWait, s.commits)
	for _, l := range s.Logs {
		go ask(l.Name, searchLog, func(ctx context.Context) ([]clue, error) {
			b, err := l.Log(ctx)
			if err != nil {
				return nil, err
			}
			return []clue{{source: l.Name, log: b}}, nil
		})
	}
	var all []clue
	var asked []string
	for range len(s.Logs) + 1 {
		a := <-answers
		all, asked = append(all, a.clues...), append(asked, a.asked)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := judge(ctx, all, s.Phrase)
	if f != nil {
		f.Asked = asked
	}
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, strings.Join(asked, "; "))
	}
	return f, nil
}

// commits opens the store, if there is anything to find through it, and examines what it
// and Egress show.
func (s IdentitySearch) commits(ctx context.Context) ([]clue, error) {
	used, err := s.Config.egressInUse(s.Home)
	if err != nil {
		return nil, err
	}
	_, repo := os.Stat(s.Home.IPFS)
	if s.Config.IPFS == "" && used.none() && !s.Config.Network.Public && repo != nil {
		return nil, errors.New("there is none here")
	}
	network, err := s.network()
	if err != nil {
		return nil, err
	}
	store, err := openStore(ctx, s.Home, s.Config, network, s.Log)
	if err != nil {
		return nil, err
	}
	found, err := s.inStore(ctx, store)
	if !used.none() {
		more, egressErr := s.inEgress(ctx, store)
		found, err = append(found, more...), errors.Join(err, egressErr)
	}
	logs, nameErr := s.inNames(ctx)
	if found = append(found, logs...); len(found) == 0 {
		err = errors.Join(err, nameErr)
	}
	if closeErr := store.Close(); closeErr != nil {
		s.Log.Warn("closing the store", "error", closeErr)
	}
	return found, err
}

// network is what a node needs to reach Egress; nil keeps it offline.
func (s IdentitySearch) network() (*ipfs.Network, error) {
	return (&Service{p: Params{Home: s.Home, Config: s.Config}}).network()
}

// inStore examines the newest commits of each vault that the store has linked.
func (s IdentitySearch) inStore(ctx context.Context, store fs.Store) ([]clue, error) {
	ctx, cancel := context.WithTimeout(ctx, searchStore)
	defer cancel()
	names, err := store.Commits(ctx, "")
	if err != nil {
		return nil, err
	}
	vaults := map[string][]pinned{}
	for _, n := range slices.Backward(names) {
		cid, err := store.Resolve(ctx, n)
		if err != nil {
			return nil, err
		}
		vaults[n.Vault] = append(vaults[n.Vault], pinned{name: n, cid: cid})
	}
	return s.examine(ctx, store, vaults, "the IPFS node")
}

// inEgress examines the newest commits of each vault that Egress has pinned.
func (s IdentitySearch) inEgress(ctx context.Context, store fs.Store) ([]clue, error) {
	ctx, cancel := context.WithTimeout(ctx, searchEgress)
	defer cancel()
	client, err := egressClient(s.Home, s.Config, s.Log)
	if client == nil || err != nil {
		return nil, err
	}
	defer client.Close()
	pins, err := client.Find(ctx, "", "")
	if err != nil {
		return nil, egressError(err)
	}
	if err := meetPeers(ctx, store, client); err != nil {
		return nil, err
	}
	return s.examine(ctx, store, vaultsOf(pins), "Egress")
}

// inNames looks for logs under the IPNS names that are the phrase's or were given. Without
// a node for it, there is nothing to ask.
func (s IdentitySearch) inNames(ctx context.Context) ([]clue, error) {
	names, err := openNames(s.Home, s.Config)
	if errors.Is(err, ErrNoNetwork) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer names.Close()
	own, err := s.Phrase.PublishedName()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, nameWait)
	defer cancel()
	var out []clue
	for _, name := range append(namedLogs(s.Domains...), own) {
		// A node of the user's own has met others long ago.
		b, readErr := readName(ctx, names, name, s.Config.IPFS == "")
		if readErr != nil {
			err = errors.Join(err, readErr)
			continue
		}
		out = append(out, clue{source: "the IPNS name " + name, log: b})
	}
	return out, err
}

// readName reads the log under a name: again and again while a node that has just started
// still meets others, else once more.
func readName(ctx context.Context, names *ipfs.Names, name string, started bool) ([]byte, error) {
	for try := 1; ; try++ {
		b, err := names.Read(ctx, name, ".well-known/did.jsonl", webvh.MaxLog)
		if err == nil {
			return b, nil
		}
		if !started && try == 2 {
			return nil, fmt.Errorf("IPNS name %s: %w", name, err)
		}
		select {
		case <-time.After(publishTry):
		case <-ctx.Done():
			return nil, fmt.Errorf("IPNS name %s: %w", name, err)
		}
	}
}

// examine opens the newest commits of each vault, as far as the phrase opens them.
func (s IdentitySearch) examine(ctx context.Context, store fs.Store, vaults map[string][]pinned, source string) ([]clue, error) {
	var out []clue
	var last error
	for _, commits := range vaults {
		for _, c := range commits[:min(len(commits), restoreTries)] {
			e, err := fs.Examine(ctx, store, s.Phrase.OpenWrapped, c.name, c.cid)
			if errors.Is(err, crypt.ErrNotRecipient) {
				continue // of another person; or of an epoch before this phrase, or after it
			}
			if err != nil {
				s.Log.Warn("a commit cannot be used", "cid", c.cid, "error", err)
				last = err
				continue
			}
			out = append(out, clue{source: source, log: e.Log, commit: e})
		}
	}
	if len(out) > 0 {
		last = nil
	}
	return out, last
}

// candidate is a DID with the best log of it.
type candidate struct {
	subject string
	log     *webvh.Log // nil for a DID without history
	raw     []byte
	source  string
	doc     *did.Document
}

// better tells whether a log is to be preferred to another one of the same DID: the one
// that goes on from the other, whatever the phrase thinks of it. Of two histories the one
// that commits to the phrase; then the one that a recovery key has signed more often, which
// a thief who holds a device cannot; and then the longer one.
func better(a, b *webvh.Log, p *auth.Phrase) bool {
	if on, back := a.Extends(b), b.Extends(a); on != back {
		return on
	}
	if ca, cb := p.CommitsTo(a), p.CommitsTo(b); ca != cb {
		return ca
	}
	ra, rb := recoveries(a), recoveries(b)
	return ra > rb || ra == rb && a.Len() > b.Len()
}

// recoveries counts the entries that a recovery key has signed.
func recoveries(l *webvh.Log) (n int) {
	for i := 2; i <= l.Len(); i++ {
		keys := webvh.RecoveryHashes(l.NextKeyHashes(i - 1))
		if slices.ContainsFunc(l.Signers(i), func(k string) bool { return slices.Contains(keys, webvh.HashKey(k)) }) {
			n++
		}
	}
	return n
}

// judge makes one identity of all clues.
func judge(ctx context.Context, all []clue, p *auth.Phrase) (*FoundIdentity, error) {
	subjects := map[string]*candidate{}
	var bad error
	for _, c := range all {
		if c.log == nil {
			continue
		}
		got, err := candidateOf(ctx, c)
		if err != nil {
			bad = fmt.Errorf("from %s: %w", c.source, err)
			continue
		}
		if have := subjects[got.subject]; have == nil || got.log != nil && better(got.log, have.log, p) {
			subjects[got.subject] = got
		}
	}
	var found []*FoundIdentity
	for _, c := range subjects {
		found = append(found, c.with(ctx, all))
	}
	// With several, the one with the newest commit: a did:key that has migrated is there
	// with its older ones.
	slices.SortFunc(found, func(a, b *FoundIdentity) int {
		if (a.Commit == nil) != (b.Commit == nil) {
			if a.Commit == nil {
				return 1
			}
			return -1
		}
		if a.Commit == nil {
			return cmp.Compare(a.DID, b.DID)
		}
		return b.Commit.Time.Compare(a.Commit.Time)
	})
	switch {
	case len(found) == 0 && bad != nil:
		return nil, fmt.Errorf("%w: %w", bad, ErrIntegrity)
	case len(found) == 0:
		return nil, ErrIdentityNotFound
	}
	return found[0], nil
}

func candidateOf(ctx context.Context, c clue) (*candidate, error) {
	if c.commit != nil && !strings.HasPrefix(c.commit.DID, "did:webvh:") {
		doc, err := did.NewKey().Resolve(ctx, c.commit.DID)
		if err != nil {
			return nil, err
		}
		return &candidate{subject: doc.ID, doc: doc, source: c.source}, nil
	}
	l, err := auth.ReadLogPart(ctx, c.log)
	if err != nil {
		return nil, err
	}
	doc, err := l.Document()
	if err != nil {
		return nil, err
	}
	return &candidate{subject: auth.SelfCertifying(doc.ID), log: l, raw: l.Bytes(), source: c.source, doc: doc}, nil
}

// with finds the newest commit of the DID among the clues.
func (c *candidate) with(ctx context.Context, all []clue) *FoundIdentity {
	f := &FoundIdentity{Found: auth.Found{DID: c.doc.ID, Log: c.raw}, Version: c.doc.Version.ID, Source: c.source}
	if c.log != nil {
		f.Changed, f.LeftOut = c.log.Last().Time, c.log.Failure()
	}
	for _, pass := range []func(*fs.Evidence) *did.Document{
		func(*fs.Evidence) *did.Document { return c.doc },
		func(e *fs.Evidence) *did.Document { return c.at(e.LogVersion) },
	} {
		for _, x := range all {
			e := x.commit
			if e == nil || auth.SelfCertifying(e.DID) != c.subject || f.Commit != nil && e.Head.Sequence <= f.Commit.Sequence {
				continue
			}
			doc := pass(e)
			if doc == nil || auth.VerifyDevice(doc, e.Head.Device, e.Message, e.Signature) != nil {
				continue
			}
			f.Commit, f.Name, f.Notes, f.From = &e.Head, e.Name, e.Notes, x.source
			f.Unlisted = doc != c.doc
		}
		if f.Commit != nil {
			break
		}
	}
	return f
}

// at is the document of an earlier version, or nil.
func (c *candidate) at(version string) *did.Document {
	if c.log == nil || !c.log.Contains(version) {
		return nil
	}
	for n := 1; n <= c.log.Len(); n++ {
		if e := c.log.Entry(n); e.VersionID == version {
			doc, err := c.log.DocumentAt(n)
			if err != nil {
				return nil
			}
			return doc
		}
	}
	return nil
}

// meetPeers tells a node the peers of Egress.
func meetPeers(ctx context.Context, store fs.Store, client *cluster.Client) error {
	return (&Service{store: store}).meetPeers(ctx, client)
}
