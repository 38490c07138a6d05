package webvh

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// Resolution is the answer to a resolution; its JSON form is the result that the DID
// resolution specification describes.
type Resolution struct {
	Document json.RawMessage         // with the implicit services; nil on failure and when deactivated
	Metadata *Metadata               // nil on failure
	Result   *did.ResolutionMetadata // never nil
	// Log is the log as far as it holds and Entry the chosen one; nil on failure.
	Log   *Log
	Entry *Entry
}

// Metadata tells of a document. The specification of DID resolution has no numbers in it,
// but versionNumber is one for all implementations.
type Metadata struct {
	VersionID     string          `json:"versionId"`
	VersionNumber int             `json:"versionNumber"`
	VersionTime   string          `json:"versionTime"`
	Created       string          `json:"created"`
	Updated       string          `json:"updated"` // of the version that was asked for
	SCID          string          `json:"scid"`
	Portable      bool            `json:"portable"`
	Deactivated   bool            `json:"deactivated"`
	TTL           string          `json:"ttl"`
	Witness       WitnessMetadata `json:"witness"`
	Watchers      []string        `json:"watchers"`
}

// WitnessMetadata is the witness parameter, its threshold as text; or an empty object.
type WitnessMetadata struct {
	Threshold string      `json:"threshold,omitempty"`
	Witnesses []WitnessID `json:"witnesses,omitempty"`
}

// WitnessID names a witness.
type WitnessID struct {
	ID string `json:"id"`
}

// MarshalJSON writes a resolution result.
func (r *Resolution) MarshalJSON() ([]byte, error) {
	var m any
	if r.Metadata != nil {
		m = r.Metadata
	}
	return did.MarshalResult(r.Document, m, r.Result)
}

// Failed is the resolution that failed with an error.
func Failed(err error) *Resolution { return &Resolution{Result: did.Failure(err)} }

// ResolveLog resolves a DID from its log and the proofs of its witnesses, without any
// network. The resolution is never nil: on failure it says so in its JSON form. The log is
// held to Rules.
func ResolveLog(ctx context.Context, id string, log, witness []byte, q Query) (*Resolution, error) {
	return Rules().ResolveLog(ctx, id, log, witness, q)
}

// ResolveLog is the function of that name, with the verifier's rules.
func (v Verifier) ResolveLog(ctx context.Context, id string, log, witness []byte, q Query) (*Resolution, error) {
	r, err := v.resolve(ctx, id, log, witness, q)
	if err != nil {
		return Failed(err), err
	}
	return r, nil
}

func (v Verifier) resolve(ctx context.Context, text string, log, witness []byte, q Query) (*Resolution, error) {
	id, err := ParseID(text)
	if err != nil {
		return nil, err
	}
	if err := q.check(); err != nil {
		return nil, err
	}
	l, err := v.Verify(ctx, log, witness)
	if err != nil {
		return nil, err
	}
	return l.Resolve(id, q)
}

// Resolve answers from a verified log. A version that holds is found even when later
// entries do not hold.
func (l *Log) Resolve(id ID, q Query) (*Resolution, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	if err := l.speaksFor(id); err != nil {
		if l.failure != nil {
			return nil, l.failure
		}
		return nil, err
	}
	e, err := l.find(q)
	if err != nil {
		return nil, err
	}
	r := &Resolution{Metadata: l.metadata(e), Result: &did.ResolutionMetadata{}, Log: l, Entry: e.Entry}
	// A deactivated DID has no document any more; its history stays readable.
	if e.params.Deactivated && q.VersionID == "" && q.VersionNumber == 0 {
		return r, nil
	}
	if r.Document, err = withServices(e.Entry); err != nil {
		return nil, err
	}
	state, _ := e.body["state"].(map[string]any)
	r.Result.ContentType = did.ContentType(state["@context"] != nil)
	return r, nil
}

// find returns the version of which all that a query asks is true.
func (l *Log) find(q Query) (*verified, error) {
	var found *verified
	for _, look := range []struct {
		asked bool
		by    func(Query) (*verified, error)
	}{
		{q.VersionID != "", l.byID}, {q.VersionNumber != 0, l.byNumber}, {!q.VersionTime.IsZero(), l.byTime},
	} {
		if !look.asked {
			continue
		}
		e, err := look.by(q)
		if err != nil {
			return nil, err
		}
		if found != nil && found != e {
			return nil, notFound("versions %s and %s are asked for at once", found.VersionID, e.VersionID)
		}
		found = e
	}
	if found != nil {
		return found, nil
	}
	if l.failure != nil {
		return nil, l.failure
	}
	return &l.entries[len(l.entries)-1], nil
}

func (l *Log) byID(q Query) (*verified, error) {
	for i := range l.entries {
		if l.entries[i].VersionID == q.VersionID {
			return &l.entries[i], nil
		}
	}
	if n, _, ok := splitVersion(q.VersionID); ok && l.failure != nil && n > len(l.entries) && n <= len(l.lines) {
		return nil, l.failure
	}
	return nil, notFound("no version %.200q", q.VersionID)
}

func (l *Log) byNumber(q Query) (*verified, error) {
	if q.VersionNumber <= len(l.entries) {
		return &l.entries[q.VersionNumber-1], nil
	}
	if l.failure != nil && q.VersionNumber <= len(l.lines) {
		return nil, l.failure
	}
	return nil, notFound("no version %d, the newest is %d", q.VersionNumber, len(l.entries))
}

func (l *Log) byTime(q Query) (*verified, error) {
	last := &l.entries[len(l.entries)-1]
	if q.VersionTime.Before(l.entries[0].Time) {
		return nil, notFound("the DID was made at %s", l.entries[0].TimeText)
	}
	// When the first invalid entry begins, nobody knows what was true.
	if l.failure != nil && (l.cut.IsZero() || !l.cut.After(last.Time) || !q.VersionTime.Before(l.cut)) &&
		!q.VersionTime.Before(last.Time) {
		return nil, l.failure
	}
	for i := len(l.entries) - 1; ; i-- {
		if !q.VersionTime.Before(l.entries[i].Time) {
			return &l.entries[i], nil
		}
	}
}

func (l *Log) metadata(e *verified) *Metadata {
	now := l.entries[len(l.entries)-1].params
	m := &Metadata{
		VersionID: e.VersionID, VersionNumber: e.Number, VersionTime: e.TimeText,
		Created: l.entries[0].TimeText, Updated: e.TimeText,
		SCID: now.SCID, Portable: now.Portable, Deactivated: now.Deactivated,
		TTL: strconv.Itoa(now.TTL), Watchers: append([]string{}, now.Watchers...),
	}
	if now.Witness.active() {
		m.Witness.Threshold = strconv.Itoa(now.Witness.Threshold)
		for _, id := range now.Witness.IDs {
			m.Witness.Witnesses = append(m.Witness.Witnesses, WitnessID{ID: id})
		}
	}
	return m
}
