package webvh

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/jcs"
	"github.com/cluster-labs/ipfscloud/auth/did/proof"
)

// Draft is an entry to be written. What is nil keeps its value; an empty list that is not
// nil empties it.
type Draft struct {
	// State is the document. The one of the first entry has Placeholder for the SCID.
	State         []byte
	UpdateKeys    []string // multikeys
	NextKeyHashes []string
	Witness       *Witness
	Watchers      []string
	TTL           *int
	Portable      *bool // true in the first entry only
	Deactivated   bool
	Time          time.Time // zero: now, or just after the entry before
}

// Placeholder stands for the SCID in the document of a first entry.
const Placeholder = placeholder

// Create makes the first entry of a log, signed by all the given signers, of whom each is
// among its update keys.
func (v Verifier) Create(ctx context.Context, d Draft, signers ...did.Signer) (*Log, error) {
	if d.State == nil || len(d.UpdateKeys) == 0 {
		return nil, invalid(KindParameters, "a first entry has a document and update keys")
	}
	params := d.params()
	params["method"], params["scid"] = Method10, placeholder
	body, err := v.body(placeholder, d, nil, params)
	if err != nil {
		return nil, err
	}
	text, err := jcs.Marshal(body)
	if err != nil {
		return nil, invalid(KindDocument, "%v", err)
	}
	scid := hashText(text)
	if body, err = jcs.Object(bytes.ReplaceAll(text, []byte(placeholder), []byte(scid))); err != nil {
		return nil, invalid(KindDocument, "%v", err)
	}
	return v.seal(ctx, &Log{}, body, signers)
}

// Append adds an entry to a log that holds as a whole, and leaves that log as it is.
// Whoever must witness the entry does it afterwards (see Log.Needs).
func (v Verifier) Append(ctx context.Context, l *Log, d Draft, signers ...did.Signer) (*Log, error) {
	if l.failure != nil { // before anything is signed
		return nil, l.failure
	}
	if d.State == nil {
		d.State = l.Last().state
	}
	if err := v.awaitTurn(ctx, l.Last().Time); err != nil {
		return nil, err
	}
	body, err := v.body(l.Last().VersionID, d, l.Last(), d.params())
	if err != nil {
		return nil, err
	}
	return v.seal(ctx, l, body, signers)
}

func (d Draft) params() map[string]any {
	m := make(map[string]any)
	for name, list := range map[string][]string{"updateKeys": d.UpdateKeys, "nextKeyHashes": d.NextKeyHashes, "watchers": d.Watchers} {
		if list != nil {
			m[name] = anyList(list)
		}
	}
	if d.Witness != nil {
		w := map[string]any{}
		if d.Witness.active() || len(d.Witness.IDs) > 0 {
			var ids []any
			for _, id := range d.Witness.IDs {
				ids = append(ids, map[string]any{"id": id})
			}
			w["threshold"], w["witnesses"] = float64(d.Witness.Threshold), ids
		}
		m["witness"] = w
	}
	if d.TTL != nil {
		m["ttl"] = float64(*d.TTL)
	}
	if d.Portable != nil {
		m["portable"] = *d.Portable
	}
	if d.Deactivated {
		m["deactivated"] = true
	}
	return m
}

func anyList(list []string) []any {
	out := make([]any, len(list))
	for i := range list {
		out[i] = list[i]
	}
	return out
}

// body is an entry without proof, with the version before in place of its own.
func (v Verifier) body(before string, d Draft, last *Entry, params map[string]any) (map[string]any, error) {
	state, err := jcs.Object(d.State)
	if err != nil {
		return nil, invalid(KindDocument, "%v", err)
	}
	at := d.Time.Truncate(time.Second)
	if d.Time.IsZero() {
		at = v.now().Truncate(time.Second)
		if last != nil && !at.After(last.Time) {
			at = v.after(last.Time)
		}
	}
	return map[string]any{
		"versionId":   before,
		"versionTime": at.UTC().Format(time.RFC3339Nano),
		"parameters":  params,
		"state":       state,
	}, nil
}

// step is the least time between two entries that are written here.
const step = time.Millisecond

// after is the time of an entry that follows one which is dated ahead: a whole second later,
// as is usual, if that is not too far ahead, else the least that counts as later. Otherwise
// a thief who dates an entry as far ahead as allowed would keep the owner waiting.
func (v Verifier) after(last time.Time) time.Time {
	if at := last.Add(time.Second).Truncate(time.Second); at.Before(v.now().Add(MaxSkew / 2)) {
		return at
	}
	return last.Add(step).Truncate(step)
}

// awaitTurn waits until an entry that follows one from so far ahead is not of the future
// any more. That takes a few milliseconds at most, for the entry before was accepted.
func (v Verifier) awaitTurn(ctx context.Context, last time.Time) error {
	wait := v.after(last).Sub(v.now().Add(MaxSkew))
	if wait <= 0 || wait > 10*step {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// seal hashes and signs an entry, and adds it if it then verifies.
func (v Verifier) seal(ctx context.Context, l *Log, body map[string]any, signers []did.Signer) (*Log, error) {
	n := len(l.entries) + 1
	line, err := v.sealed(ctx, n, body, signers)
	if err != nil {
		return nil, err
	}
	return v.Extend(l, line)
}

// Extend adds an entry to a log that holds as a whole, as a line that somebody has written
// and signed, and leaves that log as it is. What witnesses say of it is not looked at.
func (v Verifier) Extend(l *Log, line []byte) (*Log, error) {
	if l.failure != nil {
		return nil, l.failure
	}
	next := &Log{entries: slices.Clip(l.entries), lines: append(slices.Clip(l.lines), line)}
	if err := v.add(next, line); err != nil {
		return nil, inEntry(len(l.entries)+1, err)
	}
	return next, nil
}

// sealed is the line of an entry whose body has the version before in place of its own.
func (v Verifier) sealed(ctx context.Context, n int, body map[string]any, signers []did.Signer) ([]byte, error) {
	body = maps.Clone(body)
	if n == 1 {
		params, _ := body["parameters"].(map[string]any)
		body["versionId"] = params["scid"]
	}
	text, err := jcs.Marshal(body)
	if err != nil {
		return nil, invalid(KindDocument, "%v", err)
	}
	e := &Entry{body: body}
	e.body["versionId"] = versionID(n, hashText(text))
	for _, s := range signers {
		p, err := proof.Sign(ctx, e.body, s, v.now())
		if err != nil {
			return nil, err
		}
		e.proofs = append(e.proofs, p)
	}
	line, err := e.Line()
	if err != nil {
		return nil, invalid(KindDocument, "%v", err)
	}
	return bytes.TrimSuffix(line, []byte("\n")), nil
}
