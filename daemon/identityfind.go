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
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/auth"
	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
	"github.com/cluster-labs/ipfscloud/cluster"
	"github.com/cluster-labs/ipfscloud/fs"
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
	// Unlisted: the device that signed the commit was revoked since; it could write by the
	// document that the commit names. Only if no other commit was found.
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
		err   error
	}
	answers := make(chan answer)
	ask := func(name string, d time.Duration, f func(ctx context.Context) ([]clue, error)) {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		clues, err := f(ctx)
		a := answer{clues: clues, asked: fmt.Sprintf("%s: %d found", name, len(clues))}
		if err != nil {
			a.asked, a.err = fmt.Sprintf("%s: %v", name, err), err
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
	var refused error // what was not shown to us may be all there is
	for range len(s.Logs) + 1 {
		a := <-answers
		all, asked = append(all, a.clues...), append(asked, a.asked)
		if errors.Is(a.err, ErrEgressRefused) {
			refused = ErrEgressRefused
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := judge(ctx, all, s.Phrase, s.log())
	if f != nil {
		f.Asked = asked
	}
	if err != nil {
		if refused != nil {
			err = fmt.Errorf("%w: %w", refused, err)
		}
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
	logs, nameErr := s.inNames(ctx, found)
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
	vaults, err := findCommits(ctx, client)
	if err != nil {
		return nil, egressError(err)
	}
	if err := meetPeers(ctx, store, client); err != nil {
		return nil, err
	}
	return s.examine(ctx, store, vaults, "Egress")
}

// byDevice parts the commits of a vault by the device that they name, so that one device,
// with many of them, does not keep those of another from being looked at.
func byDevice(commits []pinned) (out [][]pinned) {
	at := map[string]int{}
	for _, c := range commits {
		i, ok := at[c.name.Device]
		if !ok {
			i = len(out)
			at[c.name.Device] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], c)
	}
	return out
}

// examine opens the newest commits of each device in each vault, as far as the phrase opens
// them.
func (s IdentitySearch) examine(ctx context.Context, store fs.Store, vaults map[string][]pinned, source string) ([]clue, error) {
	var (
		mu    sync.Mutex
		out   []clue
		last  error
		all   sync.WaitGroup
		slots = newSlots()
	)
	var lists [][]pinned
	for _, commits := range vaults {
		lists = append(lists, byDevice(commits)...)
	}
	for _, commits := range lists {
		all.Go(func() { // ends with ctx
			found := tryCommits(ctx, slots, commits, notForUs, func(ctx context.Context, c pinned) (*fs.Evidence, error) {
				e, err := fs.Examine(ctx, store, s.Phrase.OpenWrapped, c.name, c.cid)
				if err == nil && e.Head.Device != c.name.Device {
					err = fmt.Errorf("a pin names %s for a commit of %s: %w", c.name.Device, e.Head.Device, fs.ErrIntegrity)
				}
				if err != nil {
					return nil, err
				}
				return e, e.Whole(ctx, store)
			})
			mu.Lock()
			defer mu.Unlock()
			for _, c := range found {
				switch {
				case c.err == nil:
					out = append(out, clue{source: source, log: c.got.Log, commit: c.got})
				case !notForUs(c.err): // of another person; or of an epoch before this phrase, or after it
					s.Log.Warn("a commit cannot be used", "cid", c.commit.cid, "error", c.err)
					last = c.err
					if c.got != nil && strings.HasPrefix(c.got.DID, "did:webvh:") { // not whole: it tells of the DID all the same
						out = append(out, clue{source: source, log: c.got.Log})
					}
				}
			}
		})
	}
	all.Wait()
	if len(out) == 0 && last == nil {
		last = ctx.Err()
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
func judge(ctx context.Context, all []clue, p *auth.Phrase, log *slog.Logger) (*FoundIdentity, error) {
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
	vouched := map[*FoundIdentity]int{}
	for _, c := range subjects {
		f := c.with(all, log)
		found, vouched[f] = append(found, f), c.vouched(all, p)
	}
	// With several, one that the phrase has signed for: whoever knows the public keys of a
	// phrase can make an identity that names them, and a commit that is sealed to them. Then
	// the one with the newest commit.
	slices.SortFunc(found, func(a, b *FoundIdentity) int {
		if n := cmp.Compare(vouched[b], vouched[a]); n != 0 {
			return n
		}
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

// vouched tells how far the keys of the phrase vouch for the DID: 2 if they have signed for
// it, 1 if they make it (a did:key, which may have moved to the other), 0 if they do not.
func (c *candidate) vouched(all []clue, p *auth.Phrase) int {
	if c.log == nil {
		if p.MadeKey(c.doc) {
			return 1
		}
		return 0
	}
	var claims []auth.CommitClaim
	for _, x := range all {
		if x.commit != nil && auth.SelfCertifying(x.commit.DID) == c.subject {
			claims = append(claims, x.commit.Claim)
		}
	}
	if p.Vouches(c.log, claims) {
		return 2
	}
	return 0
}

// with finds the newest commit of the DID among the clues. Only auth.History.Judge says
// whether a commit counts: a read-only device has the vault's key too, and a commit that it
// makes looks like any other until its rights are looked at.
func (c *candidate) with(all []clue, log *slog.Logger) *FoundIdentity {
	f := &FoundIdentity{Found: auth.Found{DID: c.doc.ID, Log: c.raw}, Version: c.doc.Version.ID, Source: c.source}
	if c.log != nil {
		f.Changed, f.LeftOut = c.log.Last().Time, c.log.Failure()
	}
	history := auth.NewHistory(c.doc, c.log)
	mine := slices.DeleteFunc(slices.Clone(all), func(x clue) bool {
		return x.commit == nil || auth.SelfCertifying(x.commit.DID) != c.subject
	})
	// In the order of their numbers: what a commit claims to follow is looked at before it.
	slices.SortStableFunc(mine, func(a, b clue) int { return cmp.Compare(a.commit.Head.Sequence, b.commit.Head.Sequence) })
	var revoked []clue
	var after time.Time
	for _, x := range mine {
		claim := x.commit.Claim
		claim.After = after
		v, err := history.Judge(claim)
		switch {
		case err != nil:
			log.Warn("a commit cannot be judged", "sequence", claimed(x), "error", err)
		case v.Standing == auth.StandingWriter:
			f.take(x)
			if x.commit.Head.Time.After(after) {
				after = x.commit.Head.Time
			}
		case v.Standing == auth.StandingRevoked:
			revoked = append(revoked, x)
		default:
			log.Warn("a commit is not used", "sequence", claimed(x), "standing", v.Standing, "because", v.Because)
		}
	}
	if f.Commit != nil {
		return f
	}
	// The devices that made commits are all gone: a recovery that ended half-way leaves it
	// so. The owner is told that nobody who is listed now vouches for the commit.
	for _, x := range revoked {
		claim := x.commit.Claim
		claim.Past = true
		if v, err := history.Judge(claim); err == nil && v.Standing == auth.StandingWriter {
			f.take(x)
			f.Unlisted = true
		}
	}
	return f
}

func claimed(x clue) uint64 { return x.commit.Head.Sequence }

// take makes a commit the newest one that was found.
func (f *FoundIdentity) take(x clue) {
	e := x.commit
	if f.Commit == nil || e.Head.Sequence > f.Commit.Sequence {
		f.Commit, f.Name, f.Notes, f.From = &e.Head, e.Name, e.Notes, x.source
	}
}

// meetPeers tells a node the peers of Egress.
func meetPeers(ctx context.Context, store fs.Store, client *cluster.Client) error {
	return (&Service{store: store}).meetPeers(ctx, client)
}
