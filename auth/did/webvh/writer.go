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
	Time          time.Time // zero: now, or a second after the entry before
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
	if l.failure != nil {
		return nil, l.failure
	}
	if d.State == nil {
		d.State = l.Last().state
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
	at := d.Time
	if at.IsZero() {
		at = v.now()
		if last != nil && !at.Truncate(time.Second).After(last.Time) {
			at = last.Time.Add(time.Second)
		}
	}
	return map[string]any{
		"versionId":   before,
		"versionTime": at.UTC().Truncate(time.Second).Format(time.RFC3339),
		"parameters":  params,
		"state":       state,
	}, nil
}

// seal hashes and signs an entry, and adds it if it then verifies.
func (v Verifier) seal(ctx context.Context, l *Log, body map[string]any, signers []did.Signer) (*Log, error) {
	n := len(l.entries) + 1
	line, err := v.sealed(ctx, n, body, signers)
	if err != nil {
		return nil, err
	}
	next := &Log{entries: slices.Clip(l.entries), lines: slices.Clip(l.lines)}
	next.lines = append(next.lines, line)
	if err := v.add(next, line); err != nil {
		return nil, inEntry(n, err)
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
