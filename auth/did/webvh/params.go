package webvh

import (
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// Method10 is the only version of the method that this package knows.
const Method10 = "did:webvh:1.0"

const defaultTTL = 3600

// Params are the parameters in force after an entry.
type Params struct {
	Method        string
	SCID          string
	UpdateKeys    []string // multikeys
	NextKeyHashes []string
	Witness       Witness
	Watchers      []string
	Portable      bool
	Deactivated   bool
	TTL           int // seconds
}

// Witness says who must approve an entry; the zero one: nobody.
type Witness struct {
	Threshold int
	IDs       []string // did:key
}

func (w Witness) active() bool { return w.Threshold > 0 }

// apply returns the parameters after an entry, first telling whether it is the first.
func (p Params) apply(m map[string]any, first bool) (Params, error) {
	preRotation := !first && len(p.NextKeyHashes) > 0
	if first {
		p = Params{TTL: defaultTTL}
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if err := p.set(name, m[name], first); err != nil {
			return Params{}, err
		}
	}
	need := []string{}
	switch {
	case first:
		need = []string{"method", "scid", "updateKeys"}
	case preRotation:
		need = []string{"updateKeys", "nextKeyHashes"}
	}
	for _, name := range need {
		if _, ok := m[name]; !ok {
			return Params{}, invalid(KindParameters, "no %s", name)
		}
	}
	if first && len(p.UpdateKeys) == 0 {
		return Params{}, invalid(KindParameters, "no update key in the first entry")
	}
	return p, nil
}

func (p *Params) set(name string, v any, first bool) (err error) {
	// Early writers wrote null for the default value.
	none := v == nil
	switch name {
	case "method":
		if v != Method10 {
			return invalid(KindParameters, "method %.80v, want %s", v, Method10)
		}
		p.Method = Method10
	case "scid":
		s, _ := v.(string)
		if !first {
			return invalid(KindParameters, "scid in a later entry")
		}
		if err := checkHash(s); err != nil {
			return invalid(KindParameters, "scid is %v", err)
		}
		p.SCID = s
	case "updateKeys":
		p.UpdateKeys, err = texts(name, v, checkKey)
	case "nextKeyHashes":
		// They may be hashes or just random text.
		p.NextKeyHashes, err = texts(name, v, func(string) bool { return true })
	case "watchers":
		p.Watchers, err = texts(name, v, isURL)
	case "witness":
		p.Witness, err = parseWitness(v)
	case "portable":
		on, ok := v.(bool)
		if !ok && !none || on && !first {
			return invalid(KindParameters, "portable is %.80v: it can be set to true in the first entry only", v)
		}
		p.Portable = on
	case "deactivated":
		on, ok := v.(bool)
		if !ok && !none {
			return invalid(KindParameters, "deactivated is %.80v", v)
		}
		p.Deactivated = on
	case "ttl":
		f, ok := v.(float64)
		if none {
			f, ok = defaultTTL, true
		}
		if !ok || f != math.Trunc(f) || f < 0 || f > 1<<31 {
			return invalid(KindParameters, "ttl is %.80v", v)
		}
		p.TTL = int(f)
	default:
		return invalid(KindParameters, "unknown parameter %.80q", name)
	}
	return err
}

// texts reads a list of different strings.
func texts(name string, v any, good func(string) bool) ([]string, error) {
	if v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok || len(list) > MaxKeys {
		return nil, invalid(KindParameters, "%s is no list of at most %d", name, MaxKeys)
	}
	out := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok || s == "" || len(s) > 4096 || !good(s) {
			return nil, invalid(KindParameters, "%.80v in %s", v, name)
		}
		if slices.Contains(out, s) {
			return nil, invalid(KindParameters, "%.80q twice in %s", s, name)
		}
		out = append(out, s)
	}
	return out, nil
}

// checkKey wants a key that version 1.0 can sign with.
func checkKey(s string) bool {
	t, _, err := did.ParseMultikey(s)
	return err == nil && t == did.Ed25519
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme != ""
}

func parseWitness(v any) (Witness, error) {
	if v == nil {
		return Witness{}, nil
	}
	o, ok := v.(map[string]any)
	if !ok {
		return Witness{}, invalid(KindParameters, "witness is no object")
	}
	if len(o) == 0 {
		return Witness{}, nil
	}
	list, ok := o["witnesses"].([]any)
	if !ok || len(o) != 2 || len(list) == 0 || len(list) > MaxKeys {
		return Witness{}, invalid(KindParameters, "witness is not a threshold and 1 to %d witnesses", MaxKeys)
	}
	var w Witness
	for _, v := range list {
		o, _ := v.(map[string]any)
		id, _ := o["id"].(string)
		if len(o) != 1 || !checkKey(strings.TrimPrefix(id, "did:key:")) || !strings.HasPrefix(id, "did:key:") {
			return Witness{}, invalid(KindParameters, "witness %.200v is no did:key of an Ed25519 key", v)
		}
		if slices.Contains(w.IDs, id) {
			return Witness{}, invalid(KindParameters, "witness %s twice", id)
		}
		w.IDs = append(w.IDs, id)
	}
	f, ok := o["threshold"].(float64)
	if !ok || f != math.Trunc(f) || f < 1 || f > float64(len(w.IDs)) {
		return Witness{}, invalid(KindParameters, "threshold %.80v of %d witnesses", o["threshold"], len(w.IDs))
	}
	w.Threshold = int(f)
	return w, nil
}
