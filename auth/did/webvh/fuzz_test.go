package webvh

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cluster-labs/ipfscloud/auth/did"
	"github.com/cluster-labs/ipfscloud/auth/did/jcs"
)

func seeds(f *testing.F) {
	f.Helper()
	logs, err := filepath.Glob("testdata/vectors/*/*/did.jsonl")
	if err != nil || len(logs) == 0 {
		f.Fatal(err)
	}
	for _, name := range logs {
		log, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		witness, err := os.ReadFile(filepath.Join(filepath.Dir(name), "did-witness.json"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			f.Fatal(err)
		}
		f.Add(log, witness)
	}
}

// checkLog wants what verified to be what was hashed, whoever writes it down.
func checkLog(t *testing.T, log, witness []byte) {
	ctx := context.Background()
	l, err := Verifier{Recovery: true}.Verify(ctx, log, witness)
	if err != nil {
		if !errors.Is(err, did.ErrInvalid) || did.NameOf(err) != did.NameInvalidDID {
			t.Fatalf("error without a meaning: %v", err)
		}
		return
	}
	before := l.SCID()
	var again []byte
	for n := 1; n <= l.Len(); n++ {
		e := l.Entry(n)
		text, err := e.hashed(before)
		if err != nil || versionID(n, hashText(text)) != e.VersionID {
			t.Fatalf("entry %d hashes to something else: %v", n, err)
		}
		line, err := e.Line()
		if err != nil {
			t.Fatal(err)
		}
		again = append(again, line...)
		before = e.VersionID
	}
	l2, err := Verifier{Recovery: true}.Verify(ctx, again, witness)
	if err != nil || l2.Failure() != nil || l2.Last().VersionID != l.Last().VersionID {
		t.Fatalf("written down again, the log fails: %v", err)
	}
	for n := 1; n <= l.Len(); n++ {
		r, err := l.Resolve(l.Entry(n).ID, Query{VersionNumber: n})
		if err != nil {
			t.Fatalf("version %d: %v", n, err)
		}
		if text, err := json.Marshal(r); err != nil || !json.Valid(text) {
			t.Fatalf("version %d: %v", n, err)
		}
		if _, err := ResolveLog(ctx, l.Entry(n).ID.String(), l.Bytes(), witness, Query{VersionID: l.Entry(n).VersionID}); err != nil {
			t.Fatalf("version %d: %v", n, err)
		}
	}
	if doc, err := l.Document(); err == nil && !bytes.Equal(doc.Raw(), l.Last().State()) {
		t.Fatal("the raw document is not the declared one")
	}
}

func FuzzLog(f *testing.F) {
	seeds(f)
	f.Fuzz(checkLog)
}

// FuzzEntry signs whatever state and parameters it is given, so that the hashes and the
// signatures do not keep the fuzzer out.
func FuzzEntry(f *testing.F) {
	f.Add([]byte(`{"id":"did:webvh:{SCID}:example.com"}`), []byte(`{}`), []byte(`{"ttl":5}`))
	f.Add([]byte(`{"id":"did:webvh:{SCID}:example.com","service":[{"id":"#files"},1],"n":[1e21,-0,1.5e-7]}`), []byte(`{"portable":true,"witness":{}}`), []byte(`{"deactivated":true}`))
	f.Add([]byte(`{"id":"did:webvh:{SCID}:é.example:ü","x":"\u2028\ud83d\ude02","service":{}}`), []byte(`{"nextKeyHashes":["x"],"watchers":["a:b"]}`), []byte(`{"witness":null}`))
	f.Fuzz(func(t *testing.T, state, first, second []byte) {
		a := testSigner(1)
		fo := newForger(t)
		body, more, params := parsed(state), parsed(first), parsed(second)
		if body == nil || more == nil || params == nil {
			return
		}
		p := genesis(a)
		for name, v := range more {
			if _, ok := p[name]; !ok {
				p[name] = v
			}
		}
		fo.add(p, set("state", body), a).add(params, nil, a)
		checkLog(t, fo.log(), nil)
	})
}

func parsed(text []byte) object {
	e, err := jcs.Object(text)
	if err != nil {
		return nil
	}
	return e
}

func FuzzWitness(f *testing.F) {
	a, w := testSigner(1), testSigner(11)
	f.Add([]byte(`[{"versionId":"1-x","proof":[{}]}]`))
	f.Fuzz(func(t *testing.T, file []byte) {
		fo := newForger(t).add(genesis(a, "witness", witnesses(1, w)), nil, a)
		if l, err := (Verifier{}).Verify(context.Background(), fo.log(), file); err == nil && l.Failure() == nil {
			t.Fatal("approved without a proof")
		} else if err != nil && !errors.Is(err, did.ErrInvalid) {
			t.Fatalf("error without a meaning: %v", err)
		}
	})
}
