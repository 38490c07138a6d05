package webvh

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/jcs"
	"github.com/cluster-labs/ipfscloud/auth/did/proof"
)

// needed returns who must approve an entry that changes the witnesses from before to
// after: any of these, or nobody when the list is empty. The witnesses before approve
// their own replacement; the first ones approve the entry that brings them in.
func (v Verifier) needed(before, after Witness) []Witness {
	if !before.active() {
		if !after.active() {
			return nil
		}
		return []Witness{after}
	}
	needed := []Witness{before}
	if v.NarrowWitnesses && after.active() && len(after.IDs) < len(before.IDs) &&
		!slices.ContainsFunc(after.IDs, func(id string) bool { return !slices.Contains(before.IDs, id) }) {
		needed = append(needed, after)
	}
	return needed
}

// checkWitnesses cuts the log before the first entry that lacks approval. A proof for an
// entry approves all entries before it too.
func (v Verifier) checkWitnesses(ctx context.Context, l *Log, file []byte) error {
	if !l.witnessed() {
		return nil
	}
	approvals, err := v.approvals(ctx, l, file)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	for i := range l.entries {
		e := &l.entries[i]
		if len(e.needed) == 0 {
			continue
		}
		best := -1
		ok := slices.ContainsFunc(e.needed, func(w Witness) bool {
			n := 0
			for _, id := range w.IDs {
				if approvals[id] >= e.Number {
					n++
				}
			}
			best = max(best, n)
			return n >= w.Threshold
		})
		if ok {
			continue
		}
		why := invalid(KindWitness, "approved by %d of %d witnesses, %d needed", best, len(e.needed[0].IDs), e.needed[0].Threshold)
		if err != nil {
			why = err
		}
		l.fail(inEntry(i+1, why), l.lines[i])
		if l.entries = l.entries[:i]; i == 0 {
			return l.failure
		}
		break
	}
	return nil
}

// witnessed tells whether anything in the log needs the approval of witnesses.
func (l *Log) witnessed() bool {
	return slices.ContainsFunc(l.entries, func(e verified) bool { return len(e.needed) > 0 })
}

// approvals returns the newest entry that each witness has approved. Proofs that do not
// hold, are of nobody that matters, or are for entries not in the log are ignored.
func (v Verifier) approvals(ctx context.Context, l *Log, file []byte) (map[string]int, error) {
	if len(file) == 0 {
		return nil, invalid(KindWitness, "no proofs of witnesses")
	}
	if len(file) > MaxWitness {
		return nil, invalid(KindWitness, "%d bytes of proofs, at most %d", len(file), MaxWitness)
	}
	all, err := jcs.Parse(file)
	if err != nil {
		return nil, invalid(KindWitness, "the proofs of witnesses: %v", err)
	}
	list, ok := all.([]any)
	if !ok {
		return nil, invalid(KindWitness, "the proofs of witnesses are no list")
	}
	known := make(map[string]bool)
	for _, e := range l.entries {
		for _, w := range e.needed {
			for _, id := range w.IDs {
				known[id] = true
			}
		}
	}
	newest := make(map[string]int)
	for _, item := range list {
		o, _ := item.(map[string]any)
		version, _ := o["versionId"].(string)
		n, _, _ := splitVersion(version)
		if n < 1 || n > len(l.entries) || l.entries[n-1].VersionID != version {
			continue
		}
		proofs, _ := o["proof"].([]any)
		if one, is := o["proof"].(map[string]any); is {
			proofs = []any{one}
		}
		for _, p := range proofs {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			p, _ := p.(map[string]any)
			key, err := proof.Key(p)
			if id := "did:key:" + key; err == nil && known[id] && newest[id] < n {
				if _, err := proof.Verify(map[string]any{"versionId": version}, p, v.now()); err == nil {
					newest[id] = n
				}
			}
		}
	}
	return newest, nil
}

// SignWitness makes the proof by which a witness approves a version, and all before it.
func SignWitness(ctx context.Context, versionID string, s did.Signer, now time.Time) (map[string]any, error) {
	if _, _, ok := splitVersion(versionID); !ok {
		return nil, invalid(KindWitness, "versionId %.200q", versionID)
	}
	return proof.Sign(ctx, map[string]any{"versionId": versionID}, s, now)
}

// AddWitness adds proofs for a version to a did-witness.json file, which may be empty, and
// drops the proofs of the same witnesses for earlier versions that are in the log.
func AddWitness(file []byte, l *Log, versionID string, proofs ...map[string]any) ([]byte, error) {
	var list []any
	if len(file) > 0 {
		v, err := jcs.Parse(file)
		if err != nil {
			return nil, invalid(KindWitness, "the proofs of witnesses: %v", err)
		}
		list, _ = v.([]any)
	}
	// The newest published version that each witness has approved must stay.
	var fresh []any
	for _, p := range proofs {
		fresh = append(fresh, p)
	}
	published := l != nil && l.Contains(versionID)
	number, _, _ := splitVersion(versionID)
	var kept []any
	for _, item := range list {
		o, _ := item.(map[string]any)
		version, _ := o["versionId"].(string)
		old, _ := o["proof"].([]any)
		if version == versionID {
			fresh = append(old, fresh...)
			continue
		}
		if n, _, _ := splitVersion(version); published && n < number && l.Contains(version) {
			old = slices.DeleteFunc(slices.Clone(old), func(p any) bool { return replaced(p, proofs) })
		}
		if len(old) > 0 {
			kept = append(kept, map[string]any{"versionId": version, "proof": old})
		}
	}
	return jcs.Marshal(append(kept, map[string]any{"versionId": versionID, "proof": fresh}))
}

func replaced(p any, by []map[string]any) bool {
	o, _ := p.(map[string]any)
	key, err := proof.Key(o)
	return err == nil && slices.ContainsFunc(by, func(q map[string]any) bool {
		method, _ := q["verificationMethod"].(string)
		return strings.HasSuffix(method, "#"+key)
	})
}
