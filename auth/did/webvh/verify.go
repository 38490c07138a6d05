package webvh

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did/proof"
)

// Verifier verifies logs. The zero one follows the specification and adds nothing.
type Verifier struct {
	// Now is the time; nil is the clock.
	Now func() time.Time
	// Recovery adds the rule by which a marked recovery key can always take the DID back
	// (see MarkRecovery).
	Recovery bool
	// NarrowWitnesses accepts a change that only leaves out some of the witnesses when
	// those who stay approve it by their new threshold. The specification wants approval by
	// the witnesses before the change; early writers did it this way.
	NarrowWitnesses bool
}

// Log is a log as far as it holds.
type Log struct {
	entries []verified
	lines   [][]byte // canonical, of all entries that hold; as they came, of those after them
	failure error    // of the first that does not hold
	cut     time.Time
}

// verified is an entry that holds.
type verified struct {
	*Entry
	params  Params
	needed  []Witness // who must approve it: any of these
	signers []string  // multikeys
	size    int       // bytes of its canonical line, with the newline
	end     int       // bytes of the log up to and with it
	vouched vouched   // the last entry, up to this one, that is the owner's for sure
}

// Verify reads a log and the proofs of its witnesses. It fails when not even the first
// entry holds; else Failure tells whether all entries do.
func (v Verifier) Verify(ctx context.Context, log, witness []byte) (*Log, error) {
	lines, err := splitLog(log)
	if err != nil {
		return nil, err
	}
	l, err := v.entries(ctx, lines)
	if err != nil {
		return nil, err
	}
	if err := v.checkWitnesses(ctx, l, witness); err != nil {
		return nil, err
	}
	return l, nil
}

// entries verifies all but the approval of witnesses.
func (v Verifier) entries(ctx context.Context, lines [][]byte) (*Log, error) {
	l := &Log{lines: lines}
	for i, line := range lines {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := v.add(l, line); err != nil {
			l.fail(inEntry(i+1, err), line)
			break
		}
	}
	if len(l.entries) == 0 {
		return nil, l.failure
	}
	return l, nil
}

// fail ends the log before the entry in line.
func (l *Log) fail(err error, line []byte) {
	l.failure, l.cut = err, time.Time{}
	if e, err := parseEntry(line); err == nil {
		l.cut = e.Time
	}
}

// add verifies the next entry of a log whose entries so far hold.
func (v Verifier) add(l *Log, line []byte) error {
	e, err := parseEntry(line)
	if err != nil {
		return err
	}
	// The spaces in a line are signed by nobody: whoever serves a log could fill it up with
	// them. What is counted and kept is the form that has none.
	canonical, err := e.Line()
	if err != nil {
		return invalid(KindLog, "%v", err)
	}
	if len(canonical) > MaxEntry {
		return invalid(KindLog, "%d bytes in canonical form, at most %d", len(canonical), MaxEntry)
	}
	next, err := v.check(l, e, len(canonical))
	if err != nil {
		return err
	}
	l.lines[len(l.entries)] = bytes.TrimSuffix(canonical, []byte("\n"))
	l.entries = append(l.entries, *next)
	return nil
}

func (v Verifier) now() time.Time {
	if v.Now != nil {
		return v.Now()
	}
	return time.Now()
}

func (v Verifier) check(l *Log, e *Entry, size int) (*verified, error) {
	var before verified // zero for the first
	first := len(l.entries) == 0
	if !first {
		before = l.entries[len(l.entries)-1]
	}
	if before.params.Deactivated {
		return nil, invalid(KindParameters, "the DID was deactivated before")
	}
	if e.Number != len(l.entries)+1 {
		return nil, invalid(KindLog, "versionId %s, want number %d", e.VersionID, len(l.entries)+1)
	}
	// Also for an entry that is written here: a log that nobody reads again is not kept.
	end := before.end + size
	if end > MaxLog || e.Number > MaxEntries {
		return nil, invalid(KindLog, "%d bytes and %d entries, at most %d and %d", end, e.Number, MaxLog, MaxEntries)
	}
	if err := v.checkTime(e, before.Entry); err != nil {
		return nil, err
	}
	params, err := before.params.apply(e.params, first)
	if err != nil {
		return nil, err
	}
	if err := checkHashes(e, before.Entry, params.SCID); err != nil {
		return nil, err
	}
	active := before.params.UpdateKeys
	preRotation := !first && len(before.params.NextKeyHashes) > 0
	if first || preRotation {
		active = params.UpdateKeys
	}
	if preRotation {
		for _, k := range params.UpdateKeys {
			if !slices.Contains(before.params.NextKeyHashes, HashKey(k)) {
				return nil, invalid(KindParameters, "update key %s was not committed to", k)
			}
		}
	}
	signers, err := v.checkProofs(e, active)
	if err != nil {
		return nil, err
	}
	if err := checkMove(e, before.Entry, params); err != nil {
		return nil, err
	}
	next := &verified{
		Entry: e, params: params, signers: signers, needed: v.needed(before.params.Witness, params.Witness),
		size: size, end: end,
	}
	if next.vouched, err = v.checkRecovery(before, *next); err != nil {
		return nil, err
	}
	return next, nil
}

func (v Verifier) checkTime(e, before *Entry) error {
	if before != nil && !e.Time.After(before.Time) {
		return invalid(KindTime, "versionTime %s is not after %s of the entry before", e.TimeText, before.TimeText)
	}
	if e.Time.After(v.now().Add(MaxSkew)) {
		return invalid(KindTime, "versionTime %s is in the future", e.TimeText)
	}
	return nil
}

// checkHashes wants the entry to hash to its versionId and, being the first, to the SCID.
func checkHashes(e, before *Entry, scid string) error {
	last := scid
	if before != nil {
		last = before.VersionID
	} else if err := checkSCID(e, scid); err != nil {
		return err
	}
	text, err := e.hashed(last)
	if err != nil {
		return invalid(KindHash, "%v", err)
	}
	if got := hashText(text); got != e.hash {
		return invalid(KindHash, "the entry hashes to %s, not to %s", got, e.hash)
	}
	return nil
}

func checkSCID(e *Entry, scid string) error {
	text, err := e.hashed(placeholder)
	if err != nil {
		return invalid(KindHash, "%v", err)
	}
	// The placeholder stands for the SCID everywhere: one left over would hash the same as
	// the SCID in its place, and the SCID would name two entries.
	if bytes.Count(text, []byte(placeholder)) != 1 {
		return invalid(KindHash, "the placeholder %s was left in the entry", placeholder)
	}
	if text, err = e.scidText(scid); err != nil {
		return invalid(KindHash, "%v", err)
	}
	if got := hashText(text); got != scid {
		return invalid(KindHash, "the entry's SCID is %s, not %s", got, scid)
	}
	return nil
}

// checkProofs wants every proof to hold and to be made by an active key.
func (v Verifier) checkProofs(e *Entry, active []string) (signers []string, err error) {
	for _, p := range e.proofs {
		key, err := proof.Verify(e.body, p, v.now())
		if err != nil {
			return nil, invalid(KindProof, "%v", err)
		}
		if !slices.Contains(active, key) {
			return nil, invalid(KindProof, "%s may not sign the entry", key)
		}
		signers = append(signers, key)
	}
	return signers, nil
}

// checkMove wants the document to be of this DID, and at the same place unless it may move.
func checkMove(e, before *Entry, params Params) error {
	if e.ID.SCID != params.SCID {
		return invalid(KindDocument, "document of %s in the log of SCID %s", e.ID, params.SCID)
	}
	if before == nil || e.ID.text == before.ID.text {
		return nil
	}
	if !params.Portable {
		return invalid(KindDocument, "the DID moved from %s to %s and is not portable", before.ID, e.ID)
	}
	state, _ := e.body["state"].(map[string]any)
	known, _ := state["alsoKnownAs"].([]any)
	if !slices.Contains(known, any(before.ID.text)) {
		return invalid(KindDocument, "the DID moved, and alsoKnownAs lacks %s", before.ID)
	}
	return nil
}

// Failure is why the log does not hold as a whole, or nil.
func (l *Log) Failure() error { return l.failure }

// Cut is when the first entry that does not hold says it was made; zero if all hold, or if
// it says nothing.
func (l *Log) Cut() time.Time { return l.cut }

// Len is how many entries hold; the first does.
func (l *Log) Len() int { return len(l.entries) }

// Entry returns entry n, which counts from 1 and is at most Len.
func (l *Log) Entry(n int) *Entry { return l.entries[n-1].Entry }

// Last is the last entry that holds.
func (l *Log) Last() *Entry { return l.last().Entry }

func (l *Log) last() *verified { return &l.entries[len(l.entries)-1] }

// Params are the parameters in force after the last entry that holds.
func (l *Log) Params() Params { return l.last().params }

// SCID is the part of the DID that certifies the log.
func (l *Log) SCID() string { return l.entries[0].params.SCID }

// Needs tells who must approve entry n: the zero Witness means nobody.
func (l *Log) Needs(n int) Witness {
	if needed := l.entries[n-1].needed; len(needed) > 0 {
		return needed[0]
	}
	return Witness{}
}

// Bytes is the log up to the last entry that holds, each entry in canonical form.
func (l *Log) Bytes() []byte {
	var out []byte
	for _, line := range l.lines[:len(l.entries)] {
		out = append(append(out, line...), '\n')
	}
	return out
}

// Signers are the multikeys that signed entry n.
func (l *Log) Signers(n int) []string { return slices.Clone(l.entries[n-1].signers) }

// IDs are the DIDs that the log was the log of, in order, the present one last.
func (l *Log) IDs() []string {
	var ids []string
	for _, e := range l.entries {
		if n := len(ids); n == 0 || ids[n-1] != e.ID.text {
			ids = append(ids, e.ID.text)
		}
	}
	return ids
}

// Contains tells whether a version is in the log.
func (l *Log) Contains(versionID string) bool {
	return slices.ContainsFunc(l.entries, func(e verified) bool { return e.VersionID == versionID })
}

// Extends tells whether the log begins with all entries of another.
func (l *Log) Extends(other *Log) bool {
	return len(other.entries) <= len(l.entries) && l.Contains(other.Last().VersionID)
}

// speaksFor wants a DID to be one that the log was or is of.
func (l *Log) speaksFor(id ID) error {
	if slices.Contains(l.IDs(), id.text) {
		return nil
	}
	return invalid(KindDocument, "the log is not that of %s but of %v", id, l)
}

func (l *Log) String() string {
	return fmt.Sprintf("%s, %d entries", strings.Join(l.IDs(), ", "), len(l.entries))
}

// NextKeyHashes are those in force after entry n, counted from 1.
func (l *Log) NextKeyHashes(n int) []string { return slices.Clone(l.entries[n-1].params.NextKeyHashes) }
