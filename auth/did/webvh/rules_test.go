package webvh

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cluster-labs/ipfscloud/auth/did"
)

// Logs that hold, written by hand where the writer would not.
func TestRulesAllow(t *testing.T) {
	a, b, c := testSigner(1), testSigner(2), testSigner(3)
	for name, f := range map[string]*forger{
		"one entry":           newForger(t).add(genesis(a), nil, a),
		"two signers":         newForger(t).add(genesis(a, "updateKeys", keys(a, b)), nil, a, b),
		"empty parameters":    newForger(t).add(genesis(a), nil, a).add(object{}, nil, a),
		"rotated":             newForger(t).add(genesis(a), nil, a).add(object{"updateKeys": keys(b)}, nil, a).add(object{}, nil, b),
		"nulls":               newForger(t).add(genesis(a, "witness", nil, "watchers", nil, "nextKeyHashes", nil, "ttl", nil, "portable", nil, "deactivated", nil), nil, a),
		"ttl":                 newForger(t).add(genesis(a, "ttl", 0.0), nil, a).add(object{"ttl": float64(1 << 31)}, nil, a),
		"watchers":            newForger(t).add(genesis(a, "watchers", []any{"https://watcher.example/x", "did:web:w.example"}), nil, a).add(object{"watchers": []any{}}, nil, a),
		"method again":        newForger(t).add(genesis(a), nil, a).add(object{"method": Method10}, nil, a),
		"portable off":        newForger(t).add(genesis(a, "portable", true), nil, a).add(object{"portable": false}, nil, a),
		"pre-rotation":        newForger(t).add(genesis(a, "nextKeyHashes", hashes(b, c)), nil, a).add(object{"updateKeys": keys(b), "nextKeyHashes": hashes(c)}, nil, b).add(object{"updateKeys": keys(c), "nextKeyHashes": hashes(a)}, nil, c),
		"pre-rotation on":     newForger(t).add(genesis(a), nil, a).add(object{"nextKeyHashes": hashes(b)}, nil, a).add(object{"updateKeys": keys(b), "nextKeyHashes": hashes(c)}, nil, b),
		"pre-rotation off":    newForger(t).add(genesis(a, "nextKeyHashes", hashes(b)), nil, a).add(object{"updateKeys": keys(b), "nextKeyHashes": []any{}}, nil, b).add(object{"updateKeys": keys(c)}, nil, b).add(object{}, nil, c),
		"random hashes":       newForger(t).add(genesis(a, "nextKeyHashes", append(hashes(b), "just random")), nil, a).add(object{"updateKeys": keys(b), "nextKeyHashes": hashes(c)}, nil, b),
		"deactivated":         newForger(t).add(genesis(a), nil, a).add(object{"deactivated": true, "updateKeys": []any{}}, nil, a),
		"deactivated at once": newForger(t).add(genesis(a, "deactivated", true), nil, a),
		"frozen":              newForger(t).add(genesis(a), nil, a).add(object{"updateKeys": []any{}}, nil, a),
		"moved": newForger(t).add(genesis(a, "portable", true), nil, a).add(object{}, func(body object) {
			state := body["state"].(object)
			state["alsoKnownAs"] = []any{state["id"]}
			state["id"] = strings.Replace(state["id"].(string), "example.com", "example.org%3A8443:x", 1)
		}, a),
		"fraction of a second": newForger(t).add(genesis(a), set("versionTime", "2024-01-01T00:00:00.001Z"), a).add(object{}, set("versionTime", "2024-01-01T00:00:00.002+00:00"), a),
	} {
		l, err := Verifier{}.Verify(context.Background(), f.log(), nil)
		if err != nil || l.Failure() != nil || l.Len() != len(f.lines) {
			t.Errorf("%s: %v, %v", name, err, l)
		}
	}
}

// Each rule, broken once in an entry that hashes and is signed as it should.
func TestRulesRefuse(t *testing.T) {
	a, b, c := testSigner(1), testSigner(2), testSigner(3)
	one := func(more ...any) *forger { return newForger(t).add(genesis(a, more...), nil, a) }
	first := func(change func(object)) *forger { return newForger(t).add(genesis(a), change, a) }
	without := func(name string) *forger {
		p := genesis(a)
		delete(p, name)
		return newForger(t).add(p, nil, a)
	}
	second := func(params object, change func(object), s ...did.Signer) *forger {
		return one().add(params, change, s...)
	}
	rotating := func(params object, s ...did.Signer) *forger {
		return one("nextKeyHashes", hashes(b, c)).add(params, nil, s...)
	}
	move := func(f *forger, params object, known bool) *forger {
		return f.add(params, func(body object) {
			state := body["state"].(object)
			if known {
				state["alsoKnownAs"] = []any{state["id"]}
			}
			state["id"] = strings.Replace(state["id"].(string), "example.com", "example.org", 1)
		}, a)
	}
	for name, c := range map[string]struct {
		f    *forger
		kind string
	}{
		"no method":             {without("method"), KindParameters},
		"no scid":               {without("scid"), KindParameters},
		"no update keys":        {without("updateKeys"), KindParameters},
		"empty update keys":     {one("updateKeys", []any{}), KindParameters},
		"null update keys":      {one("updateKeys", nil), KindParameters},
		"update key twice":      {one("updateKeys", keys(a, a)), KindParameters},
		"update key no key":     {one("updateKeys", []any{a.multikey(), "z6Mk"}), KindParameters},
		"update key a number":   {one("updateKeys", []any{1.0}), KindParameters},
		"update keys no list":   {one("updateKeys", a.multikey()), KindParameters},
		"older method":          {one("method", "did:webvh:0.5"), KindParameters},
		"newer method":          {one("method", "did:webvh:1.1"), KindParameters},
		"null method":           {one("method", nil), KindParameters},
		"unknown parameter":     {one("prerotation", true), KindParameters},
		"ttl text":              {one("ttl", "3600"), KindParameters},
		"ttl negative":          {one("ttl", -1.0), KindParameters},
		"ttl fraction":          {one("ttl", 1.5), KindParameters},
		"ttl large":             {one("ttl", float64(1<<31+1)), KindParameters},
		"portable text":         {one("portable", "true"), KindParameters},
		"deactivated text":      {one("deactivated", "true"), KindParameters},
		"watcher no URL":        {one("watchers", []any{"watcher"}), KindParameters},
		"watchers twice":        {one("watchers", []any{"https://w.example", "https://w.example"}), KindParameters},
		"hashes no list":        {one("nextKeyHashes", "x"), KindParameters},
		"witness threshold 0":   {one("witness", witnesses(0, b)), KindParameters},
		"witness threshold 2/1": {one("witness", witnesses(2, b)), KindParameters},
		"witness twice":         {one("witness", witnesses(1, b, b)), KindParameters},
		"witness empty":         {one("witness", witnesses(0)), KindParameters},
		"witness no did:key":    {one("witness", object{"threshold": 1.0, "witnesses": []any{object{"id": "did:web:example.com"}}}), KindParameters},
		"witness key only":      {one("witness", object{"threshold": 1.0, "witnesses": []any{object{"id": b.multikey()}}}), KindParameters},
		"witness weight":        {one("witness", object{"threshold": 1.0, "witnesses": []any{object{"id": b.id(), "weight": 1.0}}}), KindParameters},
		"witness extra":         {one("witness", object{"threshold": 1.0, "x": 1.0, "witnesses": []any{object{"id": b.id()}}}), KindParameters},
		"witness 1.5":           {one("witness", object{"threshold": 1.5, "witnesses": []any{object{"id": b.id()}, object{"id": a.id()}}}), KindParameters},
		"parameters null":       {first(set("parameters", nil)), KindHash},

		"no context in time":     {first(set("versionTime", "2024-01-01T00:00:00")), KindTime},
		"time with offset":       {first(set("versionTime", "2024-01-01T00:00:00+01:00")), KindTime},
		"time is a date":         {first(set("versionTime", "2024-01-01")), KindTime},
		"time is a number":       {first(set("versionTime", 1.0)), KindTime},
		"time in small letters":  {first(set("versionTime", "2024-01-01t00:00:00z")), KindTime},
		"time does not exist":    {first(set("versionTime", "2024-02-30T00:00:00Z")), KindTime},
		"time in the future":     {first(set("versionTime", "2999-01-01T00:00:00Z")), KindTime},
		"time stands still":      {second(object{}, set("versionTime", "2024-01-01T01:00:00Z"), a), KindTime},
		"time goes back":         {second(object{}, set("versionTime", "2023-01-01T00:00:00Z"), a), KindTime},
		"unknown member":         {first(set("comment", "x")), KindLog},
		"no state":               {first(func(b object) { delete(b, "state") }), KindDocument},
		"state a list":           {first(set("state", []any{})), KindDocument},
		"id of another method":   {first(setState("id", "did:web:example.com")), KindDocument},
		"id without SCID":        {first(setState("id", "did:webvh:example.com")), KindDocument},
		"id of another SCID":     {first(setState("id", prefix+anySCID+":example.com")), KindDocument},
		"id of an IP":            {first(setState("id", prefix+placeholder+":127.0.0.1")), KindDocument},
		"no proof":               {newForger(t).add(genesis(a), nil), KindProof},
		"signed by another":      {newForger(t).add(genesis(a), nil, b), KindProof},
		"signed by another too":  {newForger(t).add(genesis(a), nil, a, b), KindProof},
		"second by a stranger":   {second(object{}, nil, b), KindProof},
		"second by its new key":  {second(object{"updateKeys": keys(b)}, nil, b), KindProof},
		"signed after freezing":  {second(object{"updateKeys": []any{}}, nil, a).add(object{}, nil, a), KindProof},
		"scid again":             {second(object{"scid": anySCID}, nil, a), KindParameters},
		"portable later":         {second(object{"portable": true}, nil, a), KindParameters},
		"portable off, on":       {newForger(t).add(genesis(a, "portable", true), nil, a).add(object{"portable": false}, nil, a).add(object{"portable": true}, nil, a), KindParameters},
		"lower method":           {second(object{"method": "did:webvh:0.5"}, nil, a), KindParameters},
		"after deactivation":     {second(object{"deactivated": true}, nil, a).add(object{}, nil, a), KindParameters},
		"back from deactivation": {second(object{"deactivated": true}, nil, a).add(object{"deactivated": false}, nil, a), KindParameters},

		"pre-rotation: no keys":                  {rotating(object{"nextKeyHashes": hashes(c2())}, b), KindParameters},
		"pre-rotation: no hashes":                {rotating(object{"updateKeys": keys(b)}, b), KindParameters},
		"pre-rotation: neither":                  {rotating(object{}, a), KindParameters},
		"pre-rotation: old key":                  {rotating(object{"updateKeys": keys(a), "nextKeyHashes": hashes(c2())}, a), KindParameters},
		"pre-rotation: one unknown":              {rotating(object{"updateKeys": keys(b, a), "nextKeyHashes": hashes(c2())}, b), KindParameters},
		"pre-rotation: signed by old":            {rotating(object{"updateKeys": keys(b), "nextKeyHashes": hashes(c2())}, a), KindProof},
		"pre-rotation: not revealed":             {rotating(object{"updateKeys": keys(b), "nextKeyHashes": hashes(c2())}, c), KindProof},
		"pre-rotation: empty keys":               {rotating(object{"updateKeys": []any{}, "nextKeyHashes": []any{}}, b), KindProof},
		"pre-rotation: still on when turned off": {one("nextKeyHashes", hashes(b)).add(object{"updateKeys": keys(a), "nextKeyHashes": []any{}}, nil, a), KindParameters},

		"moved, not portable":     {move(one(), object{}, true), KindDocument},
		"moved, turned off":       {move(one("portable", true), object{"portable": false}, true), KindDocument},
		"moved, not known as":     {move(one("portable", true), object{}, false), KindDocument},
		"moved to another SCID":   {one("portable", true).add(object{}, setState("id", prefix+anySCID+":example.com"), a), KindDocument},
		"witnesses without proof": {one("witness", witnesses(1, b)), KindWitness},
	} {
		if c.f == nil {
			continue
		}
		l, err := Verifier{}.Verify(context.Background(), c.f.log(), nil)
		if err == nil {
			err = l.Failure()
		}
		var named *did.Error
		if !errors.As(err, &named) || !errors.Is(err, did.ErrInvalid) || named.Name != did.NameInvalidDID || named.Kind != c.kind && name != "parameters null" {
			t.Errorf("%s: got %v, want %s", name, err, c.kind)
		}
	}
}

// c2 is a key that plays no other part.
func c2() signer { return testSigner(77) }

// Bytes of a log that somebody altered after it was signed.
func TestTampered(t *testing.T) {
	a := testSigner(1)
	good := newForger(t).add(genesis(a), nil, a).add(object{}, setState("alsoKnownAs", []any{"did:web:example.com"}), a).add(object{"ttl": 60.0}, nil, a)
	log := good.log()
	if l, err := (Verifier{}).Verify(context.Background(), log, nil); err != nil || l.Failure() != nil {
		t.Fatal(err, l.Failure())
	}
	lines := good.lines
	join := func(l ...[]byte) []byte { return bytes.Join(l, []byte("\n")) }
	for name, text := range map[string][]byte{
		"empty":              {},
		"newline":            []byte("\n"),
		"no JSON":            []byte("x\n"),
		"list":               []byte("[]\n"),
		"blank line":         join(lines[0], nil, lines[1]),
		"spaces":             join(lines[0], []byte("  "), lines[1]),
		"first cut":          join(lines[1], lines[2]),
		"middle cut":         join(lines[0], lines[2]),
		"swapped":            join(lines[0], lines[2], lines[1]),
		"twice":              join(lines[0], lines[0]),
		"first twice":        join(lines[0], lines[1], lines[1]),
		"half a line":        log[:len(log)-50],
		"two in a line":      bytes.ReplaceAll(log, []byte("\n"), nil),
		"byte order mark":    append([]byte("\xef\xbb\xbf"), log...),
		"member twice":       bytes.Replace(log, []byte(`"ttl":60`), []byte(`"ttl":60,"ttl":60`), 1),
		"ttl":                bytes.Replace(log, []byte(`"ttl":60`), []byte(`"ttl":61`), 1),
		"alias":              bytes.Replace(log, []byte(`did:web:example.com`), []byte(`did:web:example.net`), 1),
		"method":             bytes.Replace(log, []byte(Method10), []byte("did:webvh:1.2"), 1),
		"cryptosuite":        bytes.Replace(log, []byte("eddsa-jcs-2022"), []byte("eddsa-rdfc-2022"), 1),
		"purpose":            bytes.Replace(log, []byte(`"assertionMethod"`), []byte(`"authentication"`), 1),
		"time":               bytes.Replace(log, []byte(`"versionTime":"2024`), []byte(`"versionTime":"2023`), 1),
		"number with a zero": bytes.Replace(log, []byte(`"versionId":"1-`), []byte(`"versionId":"01-`), 1),
		"number with a sign": bytes.Replace(log, []byte(`"versionId":"1-`), []byte(`"versionId":"+1-`), 1),
		"SCID":               bytes.ReplaceAll(log, []byte(good.scid), []byte(anySCID)),
		"placeholder":        bytes.Replace(log, []byte(`"id":"did:webvh:`+good.scid), []byte(`"id":"did:webvh:{SCID}`), 1),
	} {
		l, err := Verifier{}.Verify(context.Background(), text, nil)
		if err == nil {
			err = l.Failure()
		}
		if !errors.Is(err, did.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// Spacing, the order of members and the last newline mean nothing.
	spaced := bytes.ReplaceAll(log, []byte(`":`), []byte(`" : `))
	for name, text := range map[string][]byte{"spaced": spaced, "no newline": bytes.TrimSpace(log), "CRLF": bytes.ReplaceAll(log, []byte("\n"), []byte("\r\n"))} {
		if l, err := (Verifier{}).Verify(context.Background(), text, nil); err != nil || l.Failure() != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An entry that still has the placeholder where the SCID belongs would hash to the same
// SCID as the right one.
func TestPlaceholderLeft(t *testing.T) {
	a := testSigner(1)
	f := newForger(t).add(genesis(a), setState("note", placeholder), a)
	good, err := parseEntry(f.lines[0])
	if err != nil {
		t.Fatal(err)
	}
	body := good.body
	body["versionId"] = f.scid
	body["state"].(object)["note"] = placeholder
	f.lines = nil
	f.seal(1, body, []did.Signer{a})
	if _, err := (Verifier{}).Verify(context.Background(), f.log(), nil); !errors.Is(err, did.ErrInvalid) || !strings.Contains(err.Error(), KindHash) {
		t.Errorf("got %v", err)
	}
}

func TestLimits(t *testing.T) {
	a := testSigner(1)
	v := Verifier{}
	many := make([]any, MaxKeys+1)
	for i := range many {
		many[i] = HashKey(string(rune('a' + i)))
	}
	for name, log := range map[string][]byte{
		"log":     bytes.Repeat([]byte("x"), MaxLog+1),
		"entry":   newForger(t).add(genesis(a), setState("x", strings.Repeat("a", MaxEntry)), a).log(),
		"entries": bytes.Repeat([]byte("{}\n"), MaxEntries+1),
		"hashes":  newForger(t).add(genesis(a, "nextKeyHashes", many), nil, a).log(),
		"proofs":  newForger(t).add(genesis(a), nil, repeat(a, MaxProofs+1)...).log(),
	} {
		if _, err := v.Verify(context.Background(), log, nil); !errors.Is(err, did.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := v.Verify(ctx, newForger(t).add(genesis(a), nil, a).log(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	soon := Verifier{Now: func() time.Time { return time.Date(2024, 1, 1, 0, 56, 0, 0, time.UTC) }}
	if l, err := soon.Verify(context.Background(), newForger(t).add(genesis(a), nil, a).log(), nil); err != nil || l.Len() != 1 {
		t.Errorf("a clock that is four minutes off: %v", err)
	}
}

func repeat(s signer, n int) []did.Signer {
	var list []did.Signer
	for range n {
		list = append(list, s)
	}
	return list
}
