package login

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/claim"
	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/webvh"
)

// Config configures a Verifier.
type Config struct {
	// Audience is who asks: the origin of a site ("https://example.com"), or a URN of a
	// program ("urn:example:backup").
	Audience string
	// ResponseURI is where users' programs post their answers, at the same origin; empty for
	// a program.
	ResponseURI string
	// Claims are names of what the service would like to know.
	Claims []string
	// Logs remembers the newest log that was accepted of each did:webvh, so that an older
	// one is refused. Nil forgets with the process; see NewDir.
	Logs webvh.Store
	// Sources are asked for newer logs, besides what comes with an answer; none of them is
	// trusted, and one that is silent does no harm. Nil is the web, with five seconds.
	Sources []webvh.Source
	// Methods are more DID methods. did:key and did:webvh are there.
	Methods []did.Method
	// Now is the time; nil is the clock.
	Now func() time.Time
}

const (
	sourceDeadline = 5 * time.Second
	verifyDeadline = 20 * time.Second // one answer, with the issuers of its credentials
)

// Verifier is the service's side of a login. It may be used from several goroutines.
type Verifier struct {
	cfg        Config
	challenger *Challenger
	resolver   *did.Resolver
	offline    *did.Resolver // knows what came with an answer, and what is remembered
	logs       *memory
}

// Login is who logged in.
type Login struct {
	// ID names the account: the DID, and of a did:webvh the part that stays when it moves to
	// another domain. Key accounts by it.
	ID string
	// DID as it is now.
	DID string
	// KeyID is the key of the device that answered.
	KeyID   string
	Version did.Version // of the document that counted
	Nonce   string      // of the request that was answered
	// Credentials about the DID that came with the answer. They verify; whether their
	// issuers are to be believed is the service's to say.
	Credentials []*claim.Credential
}

// New returns a Verifier. ErrInvalid.
func New(cfg Config) (*Verifier, error) {
	test := Request{Audience: cfg.Audience, ResponseURI: cfg.ResponseURI, Claims: cfg.Claims, Nonce: strings.Repeat("0", 43)}
	if err := errors.Join(test.check(), test.checkClaims()); err != nil {
		return nil, err
	}
	if cfg.Logs == nil {
		cfg.Logs = webvh.NewMemory()
	}
	if cfg.Sources == nil {
		cfg.Sources = []webvh.Source{webvh.NewHTTP(webvh.HTTPConfig{Deadline: sourceDeadline})}
	}
	rules := webvh.Rules()
	rules.Now = cfg.Now
	v := &Verifier{cfg: cfg, challenger: NewChallenger(cfg.Audience, cfg.Now), logs: &memory{store: cfg.Logs, rules: rules}}
	method := webvh.New(webvh.Config{Verifier: rules, Store: v.logs, Sources: append([]webvh.Source{carried{}}, cfg.Sources...)})
	v.offline = did.NewResolver(webvh.New(webvh.Config{Verifier: rules, Store: v.logs, Sources: []webvh.Source{carried{}}}))
	v.resolver = did.NewResolver(append([]did.Method{did.NewKey(), method}, cfg.Methods...)...)
	return v, nil
}

// Begin makes a request. It is good for one answer within two minutes, and costs no memory
// until it is answered.
func (v *Verifier) Begin() Request {
	q := v.challenger.New()
	return Request{Audience: q.Audience, Nonce: q.Nonce, ResponseURI: v.cfg.ResponseURI, Claims: v.cfg.Claims}
}

// Verify judges the text of an answer. An answer whose token is in good form uses its
// request up, whatever else is wrong with it.
//
// All that can be judged without the network comes first. Of a did:webvh that includes the
// signature, by the log that came with the answer: the host that such a DID names is asked
// only for somebody who has a key of the DID, or whose DID has logged in here before.
//
// The errors say what went wrong in detail, also what a server answered that a stranger
// named: they are for the service and its log, not for whoever sent the answer.
//
// ErrRefused (ErrDevice and ErrDeactivated among them), ErrRollback when the answer comes
// with an older log than the newest known, ErrUnavailable.
func (v *Verifier) Verify(ctx context.Context, text string) (*Login, error) {
	r, err := ParseResponse(text)
	if err != nil {
		return nil, err
	}
	a, err := v.challenger.check(r.IDToken)
	if err != nil {
		return nil, err
	}
	if err := v.challenger.consume(a); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, verifyDeadline)
	defer cancel()
	x := &exchange{log: r.Log, witness: r.Witness}
	ctx = context.WithValue(ctx, exchangeKey{}, x)
	if err := v.checkOffline(ctx, a, x); err != nil {
		return nil, err
	}
	doc, err := v.resolver.Resolve(ctx, a.claims.Issuer)
	if err != nil {
		return nil, Refusal(err)
	}
	if err := a.signedBy(doc); err != nil {
		return nil, err
	}
	if err := x.reaches(ctx, v.logs.rules, doc); err != nil {
		return nil, err
	}
	if err := v.logs.keep(ctx, x); err != nil {
		return nil, err
	}
	l := &Login{ID: account(doc.ID), DID: doc.ID, KeyID: a.header.KeyID, Version: doc.Version, Nonce: a.claims.Nonce}
	for _, jwt := range r.Credentials {
		c, err := claim.Verifier{Keys: v.resolver, Now: v.cfg.Now}.Verify(ctx, jwt, "")
		if err == nil && account(c.Subject) != l.ID {
			err = claim.ErrSubject
		}
		if err != nil {
			return nil, fmt.Errorf("a credential that came with the answer: %w", Refusal(err))
		}
		l.Credentials = append(l.Credentials, c)
	}
	return l, nil
}

// checkOffline judges the answer of a did:webvh by the log that came with it and the one
// that is remembered.
func (v *Verifier) checkOffline(ctx context.Context, a *answer, x *exchange) error {
	id, err := webvh.ParseID(a.claims.Issuer)
	if !strings.HasPrefix(a.claims.Issuer, "did:webvh:") {
		return nil
	}
	if err != nil {
		return Refusal(err)
	}
	doc, err := v.offline.Resolve(ctx, a.claims.Issuer)
	if err != nil {
		err = Refusal(err)
	} else {
		err = a.signedBy(doc)
	}
	if err != nil && len(x.log) == 0 {
		if _, kerr := v.cfg.Logs.Log(ctx, id); kerr == nil {
			return nil // its host may have a newer document, which lists a new device
		}
		return fmt.Errorf("%.200q has not logged in here before, and its log did not come with the answer: %w", a.claims.Issuer, err)
	}
	return err
}

// account is the part of a DID that stays.
func account(id string) string {
	if rest, ok := strings.CutPrefix(id, "did:webvh:"); ok {
		scid, _, _ := strings.Cut(rest, ":")
		return "did:webvh:" + scid
	}
	return id
}

// exchange is what one answer brought, and what resolving it found.
type exchange struct {
	log, witness []byte

	mu    sync.Mutex
	found []finding
}

type finding struct {
	id           webvh.ID
	log, witness []byte
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// reaches sees that the log which came with the answer is not older than the document
// that counts: who shows an old one may be somebody whom the newer ones leave out.
func (x *exchange) reaches(ctx context.Context, rules webvh.Verifier, doc *did.Document) error {
	if len(x.log) == 0 || !strings.HasPrefix(doc.ID, "did:webvh:") {
		return nil
	}
	l, err := rules.Verify(ctx, x.log, x.witness)
	if err != nil || !l.Contains(doc.Version.ID) {
		return fmt.Errorf("the log that came with the answer does not reach version %s of %s: %w", doc.Version, doc.ID, ErrRollback)
	}
	return nil
}

// carried is the source that came with the answer.
type carried struct{}

// Log implements webvh.Source.
func (carried) Log(ctx context.Context, id webvh.ID) ([]byte, error) {
	x := exchangeOf(ctx)
	// Of issuers of credentials nothing came.
	if x == nil || len(x.log) == 0 || !bytes.Contains(x.log, []byte(id.SCID)) {
		return nil, fmt.Errorf("no log of %s came with the answer: %w", id, did.ErrNotFound)
	}
	return x.log, nil
}

// Witness implements webvh.Source.
func (carried) Witness(ctx context.Context, id webvh.ID) ([]byte, error) {
	if x := exchangeOf(ctx); x != nil && len(x.witness) > 0 {
		return x.witness, nil
	}
	return nil, fmt.Errorf("no witnesses of %s came with the answer: %w", id, did.ErrNotFound)
}
